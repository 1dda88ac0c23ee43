"""A real caller, and a real gRPC server, as a test drives them: each line on stdin is a command in JSON, and each is answered with a line on stdout.

`serve` starts the gRPC server. `http`, `grpc` and `websocket` start a call in a thread; then `first` waits for the first piece of its answer, `send` lets
a held call go on, `cancel` breaks it off, and `wait` waits for its end and tells what came of it.
"""
import json
import os
import sys
import threading
import time
from concurrent import futures

SOON = 20


class Call:
    """One call in a thread of its own."""

    def __init__(self, command):
        self.command = command
        self.first, self.ended, self.go_on = threading.Event(), threading.Event(), threading.Event()
        self.cancelled = False
        self.cancel_now = lambda: None
        self.result = {}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            CALLS[self.command["do"]](self, self.command)
        except Exception as error:  # what went wrong is what the test asks for
            self.result.setdefault("error", f"{type(error).__name__}: {error}")
        self.first.set()
        self.ended.set()

    def cancel(self):
        self.cancelled = True
        self.cancel_now()


def http(call, command):
    """One request with httpx. `version` is 1, 2, or 0 for what ALPN agrees on."""
    import httpx

    versions = {0: (True, True), 1: (True, False), 2: (False, True)}[command["version"]]
    verify = httpx.create_ssl_context(verify=command["ca"]) if command.get("ca") else False
    headers = dict(command.get("headers", {}))
    if command.get("key"):
        headers["x-api-key"] = command["key"]

    def pieces():
        for _ in range(command["pieces"]):
            yield b"0123456789"

    content = pieces() if command.get("pieces") else command.get("body", "").encode() or None
    times = command.get("times", 1)
    with httpx.Client(http1=versions[0], http2=versions[1], verify=verify, trust_env=False, timeout=SOON) as client:
        statuses = []
        for _ in range(times):
            with client.stream(command.get("method", "GET"), command["url"], headers=headers, content=content) as answer:
                statuses.append(answer.status_code)
                call.result |= {"status": answer.status_code, "version": answer.http_version, "headers": dict(answer.headers)}
                body = b""
                try:
                    for piece in answer.iter_raw():
                        body += piece
                        call.first.set()
                        if call.cancelled:
                            break
                finally:
                    call.result |= {"bytes": len(body), "body": body[:20000].decode(errors="replace"), "statuses": statuses}


def grpc(call, command):
    """One call with grpcio: `kind` is unary, client, server or bidi; messages are bytes, so that no compiler is needed."""
    import grpc

    if command.get("ca"):
        with open(command["ca"], "rb") as file:
            channel = grpc.secure_channel(command["target"], grpc.ssl_channel_credentials(file.read()))
    else:
        channel = grpc.insecure_channel(command["target"])
    kind, count = command["kind"], command.get("messages", 1)
    body = command.get("body", "hello").encode()
    metadata = [("x-api-key", command["key"])] if command.get("key") else []
    options = {"metadata": metadata, "timeout": command.get("timeout")}

    def messages():
        for _ in range(count):
            yield body
        if command.get("hold"):
            call.go_on.wait(SOON)

    with channel:
        method, got = "/demo.Echo/" + command["method"], []
        try:
            if kind in ("unary", "client"):
                stub = channel.unary_unary(method) if kind == "unary" else channel.stream_unary(method)
                running = stub.future(body if kind == "unary" else messages(), **options)
                call.cancel_now = running.cancel
                running.exception()
                if running.code() == grpc.StatusCode.OK:
                    got.append(running.result())
            else:
                stub = channel.unary_stream(method) if kind == "server" else channel.stream_stream(method)
                running = stub(body if kind == "server" else messages(), **options)
                call.cancel_now = running.cancel
                for message in running:
                    got.append(message)
                    call.first.set()
        except grpc.RpcError:
            pass
        except grpc.FutureCancelledError:
            pass
        call.result |= {
            "code": running.code().name,
            "details": running.details(),
            "got": len(got),
            "last": got[-1].decode(errors="replace") if got else None,
            "head": dict(running.initial_metadata() or ()),
            "trailers": dict(running.trailing_metadata() or ()),
        }


def websocket(call, command):
    """One WebSocket with websockets: sends messages, reads as many back, and then holds, or closes."""
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    headers = {"x-api-key": command["key"]} if command.get("key") else {}
    try:
        socket = connect(command["url"], additional_headers=headers, open_timeout=SOON, close_timeout=SOON, proxy=None, legacy=True)
    except InvalidStatus as refused:
        call.result |= {"status": refused.response.status_code, "headers": dict(refused.response.headers.raw_items())}
        return
    call.cancel_now = lambda: socket.socket.shutdown(2)
    got = 0
    try:
        for number in range(command.get("messages", 1)):
            socket.send(command.get("say") or f"message {number}" * command.get("times", 1))
            socket.recv(timeout=SOON)
            got += 1
        call.first.set()
        while command.get("hold"):
            socket.recv(timeout=SOON)
            got += 1
        socket.close()
        call.result |= {"code": socket.close_code}
    except ConnectionClosed as closed:
        call.result |= {"code": closed.rcvd.code if closed.rcvd else 1006, "reason": closed.rcvd.reason if closed.rcvd else ""}
    call.result |= {"status": 101, "got": got}


def serve():
    """The gRPC server."""
    import grpc

    def unary(request, context):
        metadata = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-units", "5"), ("x-namespace", metadata.get("tollkeeper-namespace", "")), ("x-key", metadata.get("x-api-key", ""))))
        return request

    def sleep(request, context):
        left = context.time_remaining()
        deadline = time.monotonic() + float(request)
        while context.is_active() and time.monotonic() < deadline:
            time.sleep(0.02)
        return str(left).encode()

    def fail(request, context):
        context.abort(getattr(grpc.StatusCode, request.decode()), "as asked: 100 %")

    def fail_later(request, context):
        yield b"one"
        context.abort(getattr(grpc.StatusCode, request.decode()), "as asked")

    def ticks(request, context):
        for number in range(int(request)):
            if not context.is_active():
                return
            yield str(number).encode()
            time.sleep(0.05)

    def count(requests, context):
        return str(sum(1 for _ in requests)).encode()

    def late_head(requests, context):
        received = [next(requests) for _ in range(5)]
        # Longer than the gateway's interval of interim records in the test.
        time.sleep(1)
        context.send_initial_metadata(())
        return str(len(received) + sum(1 for _ in requests)).encode()

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLater": grpc.unary_stream_rpc_method_handler(fail_later),
        "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
        "Count": grpc.stream_unary_rpc_method_handler(count),
        "LateHead": grpc.stream_unary_rpc_method_handler(late_head),
        "Echo": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


CALLS = {"http": http, "grpc": grpc, "websocket": websocket}


def main():
    server, call = None, None
    for line in sys.stdin:
        command = json.loads(line)
        do = command["do"]
        if do == "serve":
            server, port = serve()
            answer = {"port": port}
        elif do in CALLS:
            call, answer = Call(command), {}
        elif do == "first":
            answer = {"came": call.first.wait(SOON), "ended": call.ended.is_set()}
        elif do == "send":
            call.go_on.set()
            answer = {}
        elif do == "cancel":
            call.cancel()
            answer = {}
        elif do == "wait":
            answer = call.result if call.ended.wait(SOON) else {"error": f"nothing ended within {SOON} s"}
        else:
            raise ValueError(f"unknown command {do}")
        print(json.dumps(answer), flush=True)
    # Threads of calls that hang must not keep the process.
    os._exit(0)


main()
