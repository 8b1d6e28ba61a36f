# A stand-in for the image mysql:9.7 where no image can be pulled: Debian's MySQL 9.7 behind the same contract.
ARG SYSTEM
FROM ${SYSTEM}
RUN groupadd --system --gid 999 mysql \
 && useradd --system --uid 999 --gid mysql --home-dir /var/lib/mysql --no-create-home mysql \
 && mkdir -p /usr/lib64/mysql /var/lib/mysql /var/lib/mysql-files /var/run/mysqld /docker-entrypoint-initdb.d \
 && chown mysql:mysql /var/lib/mysql /var/lib/mysql-files /var/run/mysqld \
 && chmod 1777 /var/lib/mysql /var/run/mysqld \
 && ln -s /usr/lib/mysql/plugin /usr/lib64/mysql/plugin
COPY my.cnf /etc/my.cnf
COPY --chmod=0755 mysql-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/mysql
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 3306 33060
CMD ["mysqld"]
