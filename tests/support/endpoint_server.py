"""A tiny server around a published handler.py, as an Inference Endpoint has one: run by `python -I` beside the model.

    python -I endpoint_server.py FOLDER

Prints its port. An image is decoded as the Endpoint does it, JSON is read, all else handed over; an error becomes a
400.
"""

import sys

for ours in ("modeling_lclipseg", "lclipseg"):
    sys.modules[ours] = None  # type: ignore[assignment]  # an import now fails, also where the project is installed


def main(folder: str) -> None:
    import importlib.util
    import json
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from io import BytesIO

    import torch
    from PIL import Image

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("handler", f"{folder}/handler.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MAX_BYTES, module.MAX_PIXELS = 100_000, 96 * 64  # type: ignore[attr-defined]
    module.MAX_PIXEL_CLASSES = 4 * 96 * 64  # type: ignore[attr-defined]
    handler = module.EndpointHandler()

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                content_type = self.headers.get("Content-Type", "")
                if content_type.startswith("image/"):
                    request = {"inputs": Image.open(BytesIO(body)).convert("RGB")}
                elif content_type == "application/json":
                    request = json.loads(body)
                else:
                    request = {"inputs": body}
                status, answer = 200, handler(request)
            except Exception as error:
                status, answer = 400, {"error": str(error), "type": type(error).__name__}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Server)
    print(server.server_address[1], flush=True)
    server.serve_forever()


main(sys.argv[1])
