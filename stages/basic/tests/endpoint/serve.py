"""A chat service for a test: `serve.py PORT SECONDS` answers every comparison alike, each after so many seconds."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

TOP = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.3}]
ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "m"}, "finish_reason": "length",
                 "logprobs": {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": TOP}]}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
}


class Handler(BaseHTTPRequestHandler):
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply({"data": []})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(float(sys.argv[2]))
        self.reply(ANSWER)


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
