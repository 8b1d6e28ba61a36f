# The official MySQL image with mysql-ml. docker-compose.yml shows how to run it.
#
# The library must be built against a glibc that is not newer than that of the server. bullseye has 2.31, the official
# image mysql:9.7 (Oracle Linux 9) has 2.34.
ARG BUILD_IMAGE=rust:1.95-bullseye
ARG MYSQL_IMAGE=mysql:9.7

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# Cargo wants every member of the workspace to be there, but builds only what the library needs.
COPY Cargo.toml Cargo.lock build.rs ./
COPY crates crates
COPY fuzz fuzz
COPY xtask xtask
COPY src src
RUN cargo build --release --lib -p mysql-ml --locked

FROM ${MYSQL_IMAGE}
COPY --chmod=0755 --from=build /src/target/release/libmysql_ml.so /usr/lib64/mysql/plugin/mysql_ml.so
# Run by the image's entrypoint when it initialises an empty data directory, and only then. The name puts it before
# scripts of your own, which may register models. On existing data run it once by hand:
#   docker compose exec mysql sh -c 'mysql -uroot -p < /docker-entrypoint-initdb.d/00-mysql-ml.sql'
COPY --chmod=0644 install.sql /docker-entrypoint-initdb.d/00-mysql-ml.sql
COPY --chmod=0644 install-ai.sql /docker-entrypoint-initdb.d/01-mysql-ml-ai.sql
# Settings from the environment: MYSQL_ML_SETTING_TIMEOUT_MS=30000 and the like.
COPY --chmod=0644 docker/settings.sh /docker-entrypoint-initdb.d/02-mysql-ml-settings.sh
COPY --chmod=0644 uninstall.sql before-restore.sql /usr/share/mysql-ml/
# The directory of file: secrets. Every file in it can be registered and sent to a model, so it is not /run/secrets
# itself, where the passwords of MySQL are.
ENV MYSQL_ML_SECRETS_DIR=/run/secrets/mysql-ml
