"""A store's address made into something to read and write with."""

from pyarrow import fs

from gensyn_ray.object_store.address import BucketAddress, FolderAddress, parse
from gensyn_ray.object_store.bucket import Bucket, open_filesystem
from gensyn_ray.object_store.folder import Folder
from gensyn_ray.object_store.objects import Objects
from gensyn_ray.object_store.retrying import Patience


def is_bucket(uri: str) -> bool:
    """Whether a store is a bucket, which volunteers reach by presigned links alone."""
    return isinstance(parse(uri), BucketAddress)


def open_objects(uri: str) -> Objects:
    """The objects of the store of that URI, with this process's own credentials. Makes no request.

    Raises `UsageError`.
    """
    match parse(uri):
        case FolderAddress(path=path):
            return Folder(path)
        case BucketAddress() as address:
            return Bucket(address)


def open_files(uri: str, folder: str) -> tuple[fs.FileSystem, str]:
    """(file system, path) of a folder beside the objects: what Ray Tune is given for its own files.

    It travels to volunteers inside Tune's own objects, without credentials: those are looked up by
    whoever uses it. Raises `UsageError`.
    """
    match parse(uri):
        case FolderAddress(path=path):
            return fs.LocalFileSystem(), str(path / folder)
        case BucketAddress() as address:
            patience = Patience()
            filesystem = open_filesystem(address, patience, attempts=patience.attempts)
            return filesystem, f"{address.bucket}/{address.prefix}{folder}"
