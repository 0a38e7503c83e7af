"""Bundles of earlier versions, rewritten as this one exports them: no checkpoint is needed."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import onnx

from spladelet.bundle.description import CARD, DESCRIPTION, GRAPH, GRAPH_DATA, Description
from spladelet.bundle.folder import Bundle
from spladelet.errors import InputError
from spladelet.files import FileEntry
from spladelet_export.bundle_writer import save_graph
from spladelet_export.conformance_files import add_conformance
from spladelet_export.errors import GraphError, door
from spladelet_export.explain_graphs import add_explaining
from spladelet_export.export import bundle_folder
from spladelet_export.graph.portable_rounding import alike_on, spell_out_rounding


@door("nothing was written")
def rewrite_bundle(
    bundle: str | os.PathLike[str], output: str | os.PathLike[str], *, web: bool = False
) -> Description:
    """Write an int8 bundle anew, so that its vectors are the same on every machine.

    The weights stay; the fingerprint is another, for the last bits of vectors change, and here and
    there a step of int8 with them.

    Args:
        bundle: Its folder.
        output: The new bundle's folder.
        web: Have WebAssembly give the same bits, too, in two to three times the time.

    Returns:
        The new bundle's description.

    Raises:
        BundleError: There is no bundle, or it is damaged.
        InputError: It is not in int8.
        GraphError: Its graph does not pool as this version's do.
        ExportError: The folder cannot be written.
    """
    source = Bundle.open(Path(bundle))
    source.verify()
    if not source.description.is_int8:
        raise InputError(
            f"{bundle} is in float32, where machines differ in the last bits of a weight and in no "
            "more: there is nothing to rewrite. Only int8 makes whole steps of them."
        )
    with bundle_folder(Path(output)) as folder:
        for name in source.description.files:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source.path(name), folder / name)
        graph = _rewritten(folder, web=web)
        save_graph(graph, folder)
        listed = {name: FileEntry.of(folder / name) for name in source.description.files}
        has_query_graph = source.description.query_mode == "separate"  # which is in float32
        description = replace(
            source.description,
            files=listed,
            auxiliary={},
            alike_on=() if has_query_graph else alike_on(graph.graph),
        )
        description = add_explaining(folder, description)
        description = add_conformance(folder, description)
        (folder / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
        if (card := source.folder / CARD).is_file():
            shutil.copyfile(card, folder / CARD)
    return description


def _rewritten(folder: Path, *, web: bool) -> onnx.ModelProto:
    """Take a graph out of a folder of copies: onnx reads no tensors that others have links to."""
    try:
        graph = onnx.load(folder / GRAPH)
    except Exception as error:  # protobuf's, whichever of its implementations is there
        raise GraphError(f"{folder / GRAPH} is no ONNX graph: {error}.") from error
    for name in (GRAPH, GRAPH_DATA):
        (folder / name).unlink(missing_ok=True)
    spell_out_rounding(graph.graph, web=web)
    return graph
