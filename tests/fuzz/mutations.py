"""Changes of valid files: of their bytes, and of the values in JSON documents. The same random numbers give the same file."""

import hashlib
import json
import random
import struct
from collections.abc import Mapping
from typing import Any

from pipeline.storage.documents import SEAL, sealed

Files = dict[str, bytes]
"""Content of a folder's files, by path."""

NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    -(2**31),
)
"""Numbers at which sizes, counts and offsets go wrong."""
TEXTS = (
    "",
    "0",
    "-1",
    "nan",
    "../../x",
    "/etc/passwd",
    "s3://b/k",
    "a\0b",
    "x" * 3000,
    "\ud800",
    "$_$",
    "<b>",
    "\x1b[2J",
    "1e999",
)
VALUES: tuple[Any, ...] = (None, True, [], {}, [[]], 0.5, -0.0, 1e308, 5e-324, *NUMBERS, *TEXTS)


def mutated(content: bytes, random: random.Random) -> bytes:
    """Returns the content after one to four changes of its bytes."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        _change(data, random)
    return bytes(data)


def _change(data: bytearray, random: random.Random) -> None:
    start = random.randrange(len(data) + 1)
    # Headers are at the beginning and at the end of files, and matter most.
    start = random.choice(
        (start, start, min(start, random.randrange(256)), max(start, len(data) - random.randrange(1, 256)))
    )
    size = random.choice((1, 2, 4, 8, random.randrange(1, 64), random.randrange(1, 4096)))
    match random.randrange(8):
        case 0 if start < len(data):
            data[start] ^= 1 << random.randrange(8)
        case 1 if start < len(data):
            data[start] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        case 2:
            del data[start : start + size]
        case 3:
            del data[start:]
        case 4:
            data[start:start] = data[start : start + size] * random.choice((1, 2, 50))
        case 5:
            data[start:start] = random.randbytes(size)
        case 6:
            code = random.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            number = random.choice(NUMBERS) % (1 << 8 * struct.calcsize(code))
            data[start : start + struct.calcsize(code)] = struct.pack(code, number)
        case _:
            other = random.randrange(len(data) + 1)
            data[start : start + size] = data[other : other + size]


def mutated_json(content: bytes, random: random.Random) -> bytes:
    """Returns a JSON document with one to three of its values changed, removed or repeated; of other bytes, ``mutated``."""
    try:
        document = json.loads(content)
    except ValueError:
        return mutated(content, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        parent, key = random.choice(places)
        if random.random() < 0.2:
            del parent[key]
        elif random.random() < 0.1 and isinstance(parent, list):
            parent.extend(parent[key : key + 1] * random.choice((1, 3, 1000)))
        else:
            parent[key] = random.choice(VALUES)
    return json.dumps(document, indent=2).encode()


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield value, key
        yield from _places(item)


def one_file_changed(files: Mapping[str, bytes], random: random.Random) -> Files:
    """Returns the files with one of them changed, by its bytes or, of a JSON document, by its values."""
    name = random.choice(sorted(files))
    is_document = name.endswith(".json") and random.random() < 0.8
    changed = (mutated_json if is_document else mutated)(files[name], random)
    return {**files, name: changed}


def resealed(files: Mapping[str, bytes]) -> Files:
    """Returns the files with checksums that are right again: whoever forges a file can compute its checksum, too."""
    result = dict(files)
    for name in sorted(files, key=lambda name: -name.count("/")):
        if not name.endswith(".json"):
            continue
        try:
            document = json.loads(files[name])
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            _correct(document, name.rpartition("/")[0], result)
            if SEAL in document:
                document = sealed(document)
            result[name] = json.dumps(document).encode()
    return result


def _correct(value: Any, folder: str, files: Mapping[str, bytes]) -> None:
    """Replaces the checksums of files within a document."""
    for _, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _correct(item, folder, files)
    if isinstance(value, dict) and isinstance(value.get("file"), str) and "sha256" in value:
        content = files.get(f"{folder}/{value['file']}" if folder else value["file"])
        if content is not None:
            value["sha256"] = hashlib.sha256(content).hexdigest()
