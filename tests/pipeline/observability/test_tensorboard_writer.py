"""Curves for TensorBoard."""

from pathlib import Path

from pipeline.observability.tensorboard_writer import TensorBoardWriter


def points(path: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every point in an event file: records of a length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    data, read = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        read += [(value.tag, event.step, round(value.simple_value, 6)) for value in event.summary.value]
        data = data[16 + length :]
    return read


def test_curves_can_be_read_back(tmp_path: Path) -> None:
    writer = TensorBoardWriter(str(tmp_path / "tensorboard"))
    for step in (10, 20):
        writer.add("loss/group-00000", 1 / step, step)
    writer.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert points(path) == [("loss/group-00000", 10, 0.1), ("loss/group-00000", 20, 0.05)]


def test_curves_that_cannot_be_written_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file in their place")
    writer = TensorBoardWriter(str(tmp_path / "tensorboard"))
    writer.add("loss", 1.0, 1)
    writer.close()


def test_a_bucket_has_no_curves() -> None:
    writer = TensorBoardWriter("memory://runs/a/tensorboard")
    writer.add("loss", 1.0, 1)
    writer.close()
