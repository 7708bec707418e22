"""Serve a checkpoint or an export over HTTP, in the request format of the Hub's image segmentation.

    lclipseg serve checkpoints/lclipseg-mbv3s-camvid --port 8080
    curl --data-binary @street.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8080

`POST /` takes the bytes of an image, or JSON {"inputs": base64, "parameters": {"candidate_labels": [...],
"threshold": 0.5}}, and answers with a list of {"label", "score", "mask"}, as an Inference Endpoint does: so
`InferenceClient(model="http://127.0.0.1:8080").image_segmentation("street.jpg")` works. `GET /health` says whether it
is ready, `GET /metrics` what it has done, for Prometheus. Errors are {"error": message}: 400 a request that cannot be
met, 408 a body that does not arrive, 413 one that is too large, 503 with Retry-After when there is too much to do, 500
a defect, which the log has. SIGTERM and SIGINT (Ctrl-C) stop it once all that was accepted is answered.
"""

from lclipseg.console import arguments
from lclipseg.console.extras import require
from lclipseg.console.frame import run_command
from lclipseg.networks.folders import check_at_hand
from lclipseg.serving.arguments import ServeArguments


def parse(argv: list[str] | None = None) -> tuple[str, ServeArguments]:
    description = "Folder of a checkpoint or an export, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, ServeArguments, "model", description, argv=argv)


def main(model: str, args: ServeArguments) -> None:
    require("fastapi", "uvicorn", "prometheus_client")
    check_at_hand(model, args.revision)
    from lclipseg.serving.server import serve  # when the arguments are known to be right

    serve(model, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
