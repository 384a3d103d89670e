"""The folder of a run's servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.databases import PREFIX, folder_for_servers


def test_folder_for_servers__what_a_killed_run_left_is_removed_and_what_is_in_use_stays(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left, used = (tmp_path / f"{PREFIX}{pid}-abc" for pid in (gone.pid, os.getpid()))
    (left / "pg").mkdir(parents=True)
    used.mkdir()

    shutil.rmtree(folder_for_servers(tmp_path))

    assert not left.exists()
    assert used.is_dir()


def test_folder_for_servers__without_memory_for_files_is_a_temporary_one(tmp_path: Path):
    made = folder_for_servers(tmp_path / "missing")

    assert made.is_dir()
    made.rmdir()
