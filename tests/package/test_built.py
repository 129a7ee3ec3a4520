"""What is built is what is used: wheel and sdist hold nothing stray, install alone, and record without Channels.

``make package`` runs it.
"""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_readme import check_quick_start, run_quick_start

ROOT = Path(__file__).parents[2]
NEEDED = {
    "koherent/py.typed",
    "koherent/migrations/0001_trail.py",
    "koherent/templates/koherent/admin/revert.html",
    "koherent/static/koherent/admin.css",
    "koherent/management/commands/koherent_revert.py",
}
SDIST = {"koherent", "docs", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def tracked() -> set[str]:
    """The files of the package that git knows."""
    listed = subprocess.run(["git", "ls-files", "koherent"], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(listed.stdout.splitlines())


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    names = {name for name in zipfile.ZipFile(built["wheel"]).namelist() if ".dist-info/" not in name}
    assert names == tracked()
    assert names >= NEEDED


def test_the_sdist_holds_package_and_docs(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.partition("/")[0] for name in names} == SDIST
    assert {name for name in names if name.startswith("koherent/")} == tracked()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_alone_and_records_without_channels(kind: str, built: dict[str, Path], tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(built[kind])]
    subprocess.run(install, check=True, timeout=500, cwd=tmp_path)
    channels = "import importlib.util as u; print(u.find_spec('channels'), u.find_spec('celery'), u.find_spec('tqdm'))"
    alone = subprocess.run([python, "-c", channels], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert alone.stdout == "None None None\n"
    project = tmp_path / "project"
    project.mkdir()
    check_quick_start(run_quick_start(project, python=str(python), tree=None))
