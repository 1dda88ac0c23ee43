# One image with `portal` and `metering-gateway`; the chart starts each with its own command.
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund && node portal/assets/build.mjs
ENV SQLX_OFFLINE=true
RUN cargo build --profile dist --locked --package portal --bins
# The gateway is compiled for how it runs. `--build-arg TRAIN=no` leaves that out, for builds on an emulated machine.
ARG TRAIN=yes
RUN if [ "$TRAIN" = yes ]; then scripts/setup train && scripts/gateway-profiled; \
    else cargo build --profile dist --locked --package metering-gateway --bins; fi

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/tollkeeper --create-home tollkeeper
COPY --from=build /src/target/dist/portal /src/target/dist/metering-gateway /usr/local/bin/
USER 10001:10001
EXPOSE 8080 8081 8082 9090
CMD ["portal", "serve"]
