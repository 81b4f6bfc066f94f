"""All kinds of files that are read."""

from tests.fuzz import exports, images, sets, settings
from tests.fuzz.target import MIB, Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(name="image", write=images.write_images, read=images.read_image, room_bytes=2048 * MIB),
        Target(name="tar", write=images.write_tars, read=images.read_tars),
        Target(name="parquet", write=images.write_parquet, read=images.read_parquet, room_bytes=1024 * MIB),
        Target(name="mnist", write=images.write_mnist, read=images.read_mnist),
        Target(name="peers", write=sets.write_peers, read=sets.read_peers, invented=sets.invented_peer),
        Target(name="condensed", write=sets.write_condensed, read=sets.read_condensed, seals=True),
        Target(
            name="exports",
            write=exports.write_exports,
            read=exports.read_exports,
            seals=True,
            room_bytes=1024 * MIB,
        ),
        Target(name="class-shards", write=sets.write_class_shards, read=sets.read_class_shards, seals=True),
        Target(name="experts", write=sets.write_experts, read=sets.read_experts_of, seals=True),
        Target(name="checkpoint", write=sets.write_checkpoints, read=sets.read_checkpoint_of),
        Target(name="snapshots", write=sets.write_snapshots, read=sets.read_snapshots_of),
        Target(name="run", write=sets.write_run, read=sets.read_run, seals=True),
        Target(name="search", write=sets.write_search, read=sets.read_search, seals=True),
        Target(
            name="config", write=settings.write_config, read=settings.read_config, invented=settings.invented_config
        ),
        Target(name="space", write=settings.write_space, read=settings.read_space, invented=settings.invented_space),
        Target(
            name="profile", write=settings.write_profile, read=settings.read_profile, invented=settings.invented_profile
        ),
        Target(name="synsets", write=settings.write_synsets, read=settings.read_synsets_file),
    )
}
