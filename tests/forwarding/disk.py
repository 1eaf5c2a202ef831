"""A small file system of its own, which can be filled. It needs a mount namespace: `run.py` sees to it."""

import contextlib
import os
import subprocess
import time


class SmallDisk:
    def __init__(self, folder, size):
        self.path, self.size = os.path.join(folder, "disk"), size

    def __enter__(self):
        os.mkdir(self.path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size},mode=0700", "small", self.path], check=True)
        return self

    def __exit__(self, *_):
        # Lazily: a process that was killed may still be letting go of its files.
        subprocess.run(["umount", "-l", self.path], check=True)

    def free(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def full(self, leaving):
        """Somebody else fills it, and keeps it so, but for so many bytes."""
        path = os.path.join(self.path, "filler")
        with open(path, "wb") as filler:
            size = 0
            # Files that come and go beside it may take the space first, or leave some.
            for _ in range(50):
                more = self.free() - leaving
                if more <= 0:
                    break
                with contextlib.suppress(OSError):
                    os.posix_fallocate(filler.fileno(), size, more)
                    size += more
                time.sleep(0.01)
            assert self.free() <= leaving + (1 << 20), f"{self.free()} bytes are free, {leaving} were to be left"
            try:
                yield
            finally:
                os.unlink(path)
