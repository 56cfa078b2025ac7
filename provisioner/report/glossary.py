"""What the figures mean, for the foot of a page."""

GLOSSARY = (
    ("Output tok/s", "Generated tokens a second, all requests together. Per GPU: divided by the GPUs of the server."),
    ("TTFT", "Time to first token: from sending a request until its first token is back; waiting in the queue counts."),
    ("TPOT", "Time per output token: of one request, the mean time between its tokens after the first."),
    ("ITL", "Inter-token latency: the time between two answers in a row of one stream."),
    ("E2EL", "End-to-end latency: from sending a request until its last token is back."),
    ("P99", "99 of 100 requests were at least as fast."),
    (
        "Interactivity",
        "1000 / TPOT in ms: the tokens a second that one user sees. More requests at once give more tokens per GPU "
        "and fewer per user; the dashed line shows the best of that balance.",
    ),
)
