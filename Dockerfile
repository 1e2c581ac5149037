FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY overseer overseer
COPY templates templates
COPY static static
RUN pip install --no-cache-dir --prefix=/install .

FROM python:3.13-slim
COPY --from=build /install /usr/local
RUN useradd --system --uid 10001 --home-dir /data --create-home overseer && chmod 0700 /data
USER 10001
VOLUME /data
EXPOSE 8000
ENV OVERSEER_HOST=0.0.0.0 OVERSEER_PORT=8000 OVERSEER_INSTANCE=/data PYTHONUNBUFFERED=1
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["overseer", "serve"]
