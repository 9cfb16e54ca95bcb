"""The inventory of an image (SBOM): every Python distribution and every Debian package in it, as CycloneDX 1.6 JSON.

It is read from the image itself, after the build, so it says what is there and not what was asked for. The package
managers are asked inside the image; the document is cyclonedx-python-lib's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from container.engine import Engine

_DISTRIBUTIONS = """
import importlib.metadata, json
print(json.dumps([
    [found.metadata["Name"], found.version, found.metadata.get("License-Expression")]
    for found in importlib.metadata.distributions(path=PATH)
]))
"""
_SITE = "import sysconfig; PATH=[sysconfig.get_path('purelib')]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One declared package of an image; `kind` is `pypi` or `deb`, the licence is an SPDX expression."""

    kind: str
    name: str
    version: str
    license_expression: str | None = None
    architecture: str | None = None
    release: str | None = None

    @property
    def url(self) -> PackageURL:
        """The package's name in the whole world, such as pkg:pypi/numpy@2.4.6; scanners ask for Debian's release."""
        if self.kind != "deb":
            return PackageURL(self.kind, None, self.name, self.version)
        where = {"arch": self.architecture or "", "distro": f"debian-{self.release}"}
        return PackageURL(self.kind, "debian", self.name, self.version, qualifiers=where)


def packages(engine: Engine, image: str) -> Iterator[Package]:
    """Every package that the image declares. Raises `DockerFailed`."""
    ask = ("run", "--rm", "--network", "none", image)
    for name, version, expression in json.loads(engine.run(*ask, "python3", "-c", _SITE + _DISTRIBUTIONS)):
        yield Package(kind="pypi", name=name, version=version, license_expression=expression)
    release = engine.run(*ask, "sh", "-c", ". /etc/os-release && echo $VERSION_ID").strip()
    format_ = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"
    for line in engine.run(*ask, "dpkg-query", "--show", "--showformat", format_).splitlines():
        status, name, version, architecture = line.split("\t")
        if status.startswith("ii"):
            yield Package(kind="deb", name=name, version=version, architecture=architecture, release=release)


def write(engine: Engine, image: str, path: Path) -> int:
    """Write the inventory of `image` to `path`; returns how many components it names. Raises `DockerFailed`."""
    bom = Bom()
    image_id = engine.run("image", "inspect", "--format", "{{.Id}}", image).strip()
    root = Component(name=image, version=image_id, type=ComponentType.CONTAINER, bom_ref=image)
    bom.metadata.component = root
    for package in packages(engine, image):
        component = Component(
            name=package.name,
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=package.url,
            bom_ref=package.url.to_string(),
        )
        if package.license_expression:
            component.licenses.add(LicenseExpression(package.license_expression))
        bom.components.add(component)
    bom.register_dependency(root, bom.components)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")
    return len(bom.components)
