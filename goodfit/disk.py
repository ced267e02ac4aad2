"""The system calls that change files, one method each: the one place where tests record them or let them fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class Disk:
    """Changes files through the operating system; each method is one step that a crash can fall before or after."""

    def make_folder(self, path: Path) -> None:
        """Make one folder."""
        os.mkdir(path)

    def write(self, path: Path, content: bytes) -> None:
        """Make or empty a file, write all of it, and have it on the disk itself before returning."""
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            self.sync(path, file.fileno())

    def append(self, path: Path, content: bytes) -> None:
        """Add to the end of a file; the system writes it to the disk when it likes."""
        with path.open("ab") as file:
            file.write(content)

    def sync(self, path: Path, handle: int) -> None:
        """Have an open file, or the names in an open folder, on the disk itself."""
        os.fsync(handle)

    def sync_folder(self, path: Path) -> None:
        """Have the names in a folder on the disk itself: what was made, renamed and removed in it."""
        handle = os.open(path, os.O_RDONLY)
        try:
            self.sync(path, handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name in one step; a file of that name is replaced."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def free(self, path: Path) -> int:
        """Bytes that are free where a folder lies."""
        return shutil.disk_usage(path).free
