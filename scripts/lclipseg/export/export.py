"""From a checkpoint to a folder with one ONNX graph."""

from pathlib import Path

from lclipseg.console import environment
from lclipseg.export import graph as exporting
from lclipseg.export import label_map as label_map_graph
from lclipseg.export.arguments import ExportArguments
from lclipseg.export.calibration import calibration_feeds
from lclipseg.export.finish import describe, finished, licence_beside
from lclipseg.export.int8 import quantize
from lclipseg.export.rewriting import enlarge_scores_side_by_side
from lclipseg.networks.build import with_shortest_edge
from lclipseg.networks.checkpoints import load_model, weights_sha256
from lclipseg.networks.class_embeddings import comma_separated, take_classes
from lclipseg.networks.export_record import MODEL_FILE, ExportRecord


def export_model(model_source: str, args: ExportArguments) -> ExportRecord:
    """
    Export the checkpoint into the folder `args.out`.

    Args:
        model_source (`str`): folder of a checkpoint, or OWNER/NAME on the Hub.
        args ([`ExportArguments`]): the options.

    Returns:
        [`ExportRecord`]: what was written to export.json.

    Raises:
        InputError: a model, vocabulary, class or word bank that cannot be used, or a folder that holds a checkpoint.
    """
    out = Path(args.out).expanduser()
    exporting.check_out(out)
    model, image_processor = load_model(model_source, args.revision)
    if args.shortest_edge is not None:
        image_processor = with_shortest_edge(image_processor, args.shortest_edge)
    if args.classes is not None:
        given = f"--classes {args.classes!r}"
        take_classes(model, comma_separated(args.classes), given=given, bank=args.bank)
    if args.label_map:
        label_map_graph.check_settings(image_processor)
    model.drop_text_model()

    graph = exporting.export_network(model, args.vocabulary)
    if args.int8 or not args.label_map:  # a label map in float32 is what browsers run
        enlarge_scores_side_by_side(graph.graph)
    if args.calibration is not None:
        feeds = calibration_feeds(args.calibration, model, image_processor, args.vocabulary)
        graph = quantize(graph, feeds)
    if args.label_map:
        graph = label_map_graph.add_label_map(graph, image_processor)
    graph = finished(graph, args.opset)
    describe(graph, model.config, image_processor, _name(model_source), args.licence or licence_beside(model_source))
    record = ExportRecord(
        format=args.format,
        vocabulary=args.vocabulary,
        label_map=args.label_map,
        int8=args.int8,
        inputs=exporting.described(graph.graph.input),
        outputs=exporting.described(graph.graph.output),
        opset=args.opset,
        model=_name(model_source),
        weights_sha256=weights_sha256(model_source),
        versions=environment.versions(),
        commit=environment.commit(),
        date=environment.now(),
    )
    exporting.write_export(out, graph, model, image_processor, record)
    size = (out / MODEL_FILE).stat().st_size
    print(f"{out / MODEL_FILE}: {size / 1e6:.2f} MB, {', '.join(record.inputs)} -> {', '.join(record.outputs)}")
    return record


def _name(model_source: str) -> str:
    """Of a folder its last part: the record is published, and where the folder lies is nobody's business."""
    folder = Path(model_source).expanduser()
    return folder.resolve().name if folder.is_dir() else model_source
