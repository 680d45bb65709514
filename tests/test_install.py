"""`make install`: which Python it takes, and what it does with an environment that no longer works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import metadata
from pathlib import Path

import pip
import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MINORS = [f"3.{minor}" for minor in range(8, 30)]

# A Python whose environments are made without a download and in no time: their pip is a link to the one that is here.
PYTHON = """#!/bin/sh
[ "$1" = -m ] || exec {base} "$@"
shift 2
{base} -m venv --without-pip "$@" && for site in .venv/lib/python*/site-packages; do ln -s {pip} $site/pip; done
"""
# One that says that it is another version.
OTHER = """#!/bin/sh
exec {base} -c "import sys; sys.version_info = {info}; sys.version = '{version} (main)'; exec(sys.argv[1])" "$2"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the project as far as `make install` goes, with one pinned package that its environment has already."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "alone.py", tmp_path / "scripts")
    (tmp_path / "requirements.txt").write_text(f"pinned[extra]==1.0 --hash=sha256:{'0' * 64}\n")
    script(tmp_path / "python3", PYTHON)
    return tmp_path


def script(path: Path, text: str, **values: object) -> None:
    base = getattr(sys, "_base_executable", sys.executable)
    path.write_text(text.format(base=base, pip=Path(pip.__file__).parent, **values))
    path.chmod(0o755)


def make(folder: Path, python: str = "./python3") -> tuple[int, str]:
    code, out, err = make_apart(folder, python)
    return code, out + err


def make_apart(folder: Path, python: str = "./python3", *options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["make", *options, "install", f"PYTHON={python}"], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def environment(folder: Path) -> Path:
    """An environment that works, and in it a file that is gone when it is made again."""
    subprocess.run(["./python3", "-m", "venv", ".venv"], cwd=folder, check=True)
    package(folder, "pinned")
    (folder / ".venv" / "mine").touch()
    return folder / ".venv"


def package(folder: Path, name: str, *requires: str) -> None:
    about = site(folder) / f"{name}-1.0.dist-info"
    about.mkdir()
    needs = "".join(f"Requires-Dist: {name}\n" for name in requires)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")


def site(folder: Path) -> Path:
    (found,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    return found


@pytest.mark.slow
def test_two_makes_at_once_in_a_fresh_clone_make_one_environment(folder: Path) -> None:
    """The second one cleared what the first one was installing into."""
    made = PYTHON.replace("{base} -m venv", "echo made >> log; sleep 3; {base} -m venv")
    script(folder / "python3", made)
    (folder / "requirements.txt").write_text("")
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(make, folder) for _ in range(2)]
    results = [one.result() for one in done]
    assert [code for code, _ in results] == [0, 0], results
    assert (folder / "log").read_text() == "made\n"
    said = "".join(text for _, text in results)
    assert said.count("Installing the pinned requirements") == 1
    assert said.count("Another make is installing here; waiting for it") >= 1


@pytest.mark.slow
@pytest.mark.parametrize("because", ["its Python is gone", "no pip"])
def test_an_environment_that_does_not_work_is_made_again(folder: Path, because: str) -> None:
    made = environment(folder)
    (made / ".installed").touch()  # newer than the lock: it looked as if nothing was to be done
    if because == "no pip":
        (site(folder) / "pip").unlink()
    else:
        (made / "bin" / "python").unlink()
        (made / "bin" / "python").symlink_to("/not/there/python3")
    (folder / "requirements.txt").write_text("")
    code, out, said = make_apart(folder, "./python3", "-s")
    assert (code, (made / "mine").exists(), (made / ".installed").exists()) == (0, False, True), said
    assert ".venv does not work" in said
    assert out == ""  # `export $(make -s up ARGS=--show-keys)` would take it for names of variables
    assert "Nothing to be done" in make(folder)[1]


@pytest.mark.slow
def test_what_lies_beside_the_lock_keeps_no_run_back_but_a_lock_that_is_not_whole_does(folder: Path) -> None:
    made = environment(folder)
    package(folder, "somebodys", "not-there")
    code, said = make(folder)
    assert (code, (made / "mine").exists(), "not-there" in said) == (0, True, False), said
    (made / ".installed").unlink()
    package(folder, "needed", "not-there")
    with (folder / "requirements.txt").open("a") as lock:
        lock.write(f"needed==1.0 --hash=sha256:{'0' * 64}\n")
    code, said = make(folder)
    assert (code, (made / ".installed").exists()) == (2, False)
    assert "needed 1.0 requires not-there, which is not installed" in said


@pytest.mark.parametrize("version", ["3.10.13", "3.15.0"])
def test_a_python_that_does_not_fit_is_named_before_anything_is_made(folder: Path, version: str) -> None:
    script(folder / "other", OTHER, version=version, info=tuple(map(int, version.split("."))))
    code, said = make(folder, "./other")
    assert (code, (folder / ".venv").exists()) == (2, False)
    assert f"Python 3.11 to 3.14 is needed; this is {version}. Try: make run PYTHON=python3.12" in said


def test_without_a_python_of_that_name_it_says_so(folder: Path) -> None:
    code, said = make(folder, "python3.99")
    assert (code, "Python 3.11 or newer is needed; there is no python3.99." in said) == (2, True), said


def test_the_pythons_that_fit_are_those_of_the_project_and_of_prefect() -> None:
    project = SpecifierSet(PROJECT["project"]["requires-python"])
    low, high = re.findall(r"\((3, \d+)\)", re.findall(r"^FITS := (.*)$", (ROOT / "Makefile").read_text(), re.M)[0])
    assert str(project) == str(SpecifierSet(f">={low},<{high}".replace(", ", ".")))
    prefect = SpecifierSet(metadata("prefect")["Requires-Python"])
    assert [minor for minor in MINORS if minor in project] == [m for m in MINORS if m in prefect and m != "3.10"]


def test_types_are_checked_for_the_python_that_the_packages_are_of() -> None:
    """A newer Python has a newer NumPy, whose types make no sense to an older Python."""
    assert "python_version" not in PROJECT["tool"]["mypy"]
