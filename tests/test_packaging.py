"""What pyproject.toml says about the package agrees with the folders."""

import fnmatch
import tomllib
from pathlib import Path

import pytest

import tracejit
import tracejit.backends
import tracejit.ir

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tracejit": ROOT / "tracejit", "tracejit.ir": ROOT / "ir", "tracejit.backends": ROOT / "backends"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def package_folders() -> dict[str, Path]:
    """Every importable folder of the repository, under the name it is imported as."""
    return {
        ".".join([name, *init.parent.relative_to(folder).parts]): init.parent
        for name, folder in FOLDERS.items()
        for init in folder.rglob("__init__.py")
    }


def test_every_package_is_listed():
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())


def test_every_module_stands_in_a_package():
    packages = set(package_folders().values())
    strays = [file for folder in FOLDERS.values() for file in folder.rglob("*.py") if file.parent not in packages]
    assert strays == [], "these folders lack an __init__.py"


def test_every_data_file_is_installed():
    missing = []
    for package, folder in package_folders().items():
        patterns = SETUPTOOLS["package-data"].get(package, [])
        for file in folder.iterdir():
            if not file.is_file() or file.suffix in {".py", ".pyc"} or file.name.startswith("."):
                continue
            if not any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns):
                missing.append(f"{package}: {file.name}")
    assert missing == []
    assert (ROOT / "tracejit" / "py.typed").is_file()


@pytest.mark.parametrize("name", FOLDERS)
def test_the_package_directories_are_mapped(name):
    assert ROOT / SETUPTOOLS["package-dir"][name] == FOLDERS[name]


def test_the_tests_run_on_this_checkout():
    for module in (tracejit, tracejit.ir, tracejit.backends):
        assert module.__file__ is not None
        assert Path(module.__file__).resolve() == FOLDERS[module.__name__] / "__init__.py"


def test_the_version_is_told_once():
    assert tracejit.__version__ == PYPROJECT["project"]["version"]
