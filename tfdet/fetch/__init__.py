"""Files of the web: fetched once, into a cache, whole or not at all.

    path = download(["https://host/a.pth"], cache_folder() / "weights" / "a.pth", checksum="sha256:258fb6c6")

What the environment says is read in `settings`; docs/weights.md lists it.
"""

from tfdet.fetch.download import download, remote_size
from tfdet.fetch.record import check_kept, digests, forget, read_record, remove
from tfdet.fetch.settings import cache_folder, offline

__all__ = [
    "cache_folder",
    "check_kept",
    "digests",
    "download",
    "forget",
    "offline",
    "read_record",
    "remote_size",
    "remove",
]
