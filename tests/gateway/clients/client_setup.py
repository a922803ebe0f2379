"""What the scripts of this folder share: the OpenTelemetry SDK as its docs set it up, and two questions to ask.

A script is called with the base URL of an OpenAI API, the address of an OTLP/HTTP receiver and the name of a model.
"""

import sys

MODEL_API, RECEIVER, MODEL = sys.argv[1:4]
MESSAGES = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "What does express shipping cost?"},
]


def trace_provider():
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "lamps"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{RECEIVER}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider


def log_provider():
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(resource=Resource.create({"service.name": "lamps"}))
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{RECEIVER}/v1/logs")))
    set_logger_provider(provider)
    return provider


def ask():
    """One answer in a piece, one as a stream."""
    import openai

    client = openai.OpenAI(base_url=MODEL_API, api_key="none", max_retries=0)
    client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0.5, max_tokens=99)
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    for _ in stream:
        pass
    client.close()
