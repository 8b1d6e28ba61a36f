# A stand-in for a server of embeddings: this project's own test endpoint, on all addresses of the container.
ARG SYSTEM
FROM ${SYSTEM}
COPY --chmod=0755 xtask /usr/local/bin/xtask
# What follows in a compose file as "command" is for the server that it stands in for.
ENTRYPOINT ["sh", "-c", "exec xtask endpoint --listen 0.0.0.0:80"]
