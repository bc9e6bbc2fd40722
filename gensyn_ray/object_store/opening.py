"""Opens the object store that an address names."""

from pyarrow import fs

from gensyn_ray.object_store.address import BucketAddress, FolderAddress, parse
from gensyn_ray.object_store.bucket import Bucket, open_filesystem
from gensyn_ray.object_store.folder import Folder
from gensyn_ray.object_store.objects import Objects
from gensyn_ray.object_store.retry import RetryPolicy


def is_bucket(uri: str) -> bool:
    """Whether the store is a bucket, which volunteers reach only by presigned links."""
    return isinstance(parse(uri), BucketAddress)


def open_objects(uri: str) -> Objects:
    """Open the store of a URI with this process's credentials. Makes no request.

    Raises `UsageError`.
    """
    match parse(uri):
        case FolderAddress(path=path):
            return Folder(path)
        case BucketAddress() as address:
            return Bucket(address)


def open_files(uri: str, folder: str) -> tuple[fs.FileSystem, str]:
    """(file system, path) of a folder beside the objects, for Ray Tune's own files.

    Tune's objects carry it to volunteers without credentials; each process looks up its own. Raises
    `UsageError`.
    """
    match parse(uri):
        case FolderAddress(path=path):
            return fs.LocalFileSystem(), str(path / folder)
        case BucketAddress() as address:
            retry = RetryPolicy()
            filesystem = open_filesystem(address, retry, attempts=retry.attempts)
            return filesystem, f"{address.bucket}/{address.prefix}{folder}"
