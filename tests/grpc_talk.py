"""A service and a client by grpcio, in processes of their own (its threads do not like forks).

    grpc_talk.py serve                       prints its port, serves until its standard input ends
    grpc_talk.py ask HOST:PORT [CA AUTHORITY]  one call of each kind, as JSON on standard output; with TLS if CA is given
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

WAIT_S = 60


class Shop(grpc.GenericRpcHandler):
    """Four kinds of call; messages are plain bytes."""

    def service(self, details):
        return {
            "/shop.Orders/Place": grpc.unary_unary_rpc_method_handler(lambda item, context: b"placed " + item),
            "/shop.Orders/Watch": grpc.unary_stream_rpc_method_handler(lambda item, context: (b"%d" % n for n in range(int(item)))),
            "/shop.Orders/Sum": grpc.stream_unary_rpc_method_handler(lambda items, context: b"%d" % sum(map(int, items))),
            "/shop.Orders/Chat": grpc.stream_stream_rpc_method_handler(lambda items, context: (item[::-1] for item in items)),
            "/shop.Orders/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(details.method)

    @staticmethod
    def fail(item, context):
        context.set_trailing_metadata((("x-reason", "sold-out"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "none left")


def serve():
    server = grpc.server(ThreadPoolExecutor(8), handlers=[Shop()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(1).wait()


def ask(address, ca="", authority=""):
    if ca:
        with open(ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", authority),))
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        told = {"one": channel.unary_unary("/shop.Orders/Place")(b"tea", timeout=WAIT_S).decode(),
                "stream": [one.decode() for one in channel.unary_stream("/shop.Orders/Watch")(b"5", timeout=WAIT_S)],
                "sum": channel.stream_unary("/shop.Orders/Sum")(iter([b"1", b"2", b"3"]), timeout=WAIT_S).decode(),
                "chat": [one.decode() for one in channel.stream_stream("/shop.Orders/Chat")(iter([b"ab", b"cd"]), timeout=WAIT_S)]}
        for name in ("Fail", "Nothing"):
            try:
                channel.unary_unary(f"/shop.Orders/{name}")(b"", timeout=WAIT_S)
            except grpc.RpcError as error:
                told[name] = [error.code().name, error.details(), dict(error.trailing_metadata() or ()).get("x-reason")]
    print(json.dumps(told))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
