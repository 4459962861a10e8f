# A server of exported files on the CPU: docker build -t dualvit-serve . ; it was not built yet.
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
# torch of this index has no CUDA in it, which is most of its size.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt ".[serve]" \
    && useradd --create-home --uid 10001 serve
USER serve
EXPOSE 8000
HEALTHCHECK --interval=10s --start-period=120s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
STOPSIGNAL SIGTERM
# Without --key-file, whoever reaches the port may ask.
ENTRYPOINT ["dualvit", "serve", "--host", "0.0.0.0"]
