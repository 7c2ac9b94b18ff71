"""A model behind the two OpenAI endpoints that lm-eval speaks to, as far as lm-eval needs them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class ModelServer(ThreadingHTTPServer):
    """Completions and chat completions of one model, greedy, with log-probabilities of prompts."""

    daemon_threads = True

    def __init__(self, model, tokenizer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.tokenizer = model, tokenizer
        self.paths = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def generated(self, ids, body):
        """The answer to one prompt of token ids, without the stop word that ended it."""
        out = self.model.generate(
            torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False, pad_token_id=0
        )
        text = self.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=False)
        ends = [text.index(stop) for stop in body.get("stop") or () if stop and stop in text]
        return text[: min(ends)] if ends else text

    def echoed(self, ids):
        """Log-probabilities of the prompt's own tokens, and of one more behind it."""
        with torch.no_grad():
            every = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        following = [*ids[1:], int(every[-1].argmax())]
        own = [float(row[token]) for row, token in zip(every, following, strict=True)]
        best = [{"best": float(row.max())} for row in every]
        return {"token_logprobs": [None, *own], "top_logprobs": [None, *best]}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):  # lm-eval asks whether the server has a tokenizer
        self.send_error(404)

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.paths.append(self.path)
            if self.path.endswith("/chat/completions"):
                text = server.tokenizer.apply_chat_template(
                    body["messages"], tokenize=False, add_generation_prompt=True
                )
                ids = server.tokenizer(text, add_special_tokens=False)["input_ids"]
                choices = [{"index": 0, "message": {"content": server.generated(ids, body)}}]
            else:
                prompts = body["prompt"]
                prompts = prompts if isinstance(prompts[0], list) else [prompts]
                choices = [
                    {"index": i, "text": "", "logprobs": server.echoed(ids)}
                    if body.get("echo")
                    else {"index": i, "text": server.generated(ids, body)}
                    for i, ids in enumerate(prompts)
                ]
        answer = json.dumps({"choices": choices}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
