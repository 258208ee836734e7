# pg_tls/Makefile

MODULE_big = pg_tls
OBJS = \
	src/advice.o \
	src/answer.o \
	src/certificate.o \
	src/chain.o \
	src/check.o \
	src/crl.o \
	src/crldir.o \
	src/describe.o \
	src/files.o \
	src/handshake.o \
	src/inventory.o \
	src/judge.o \
	src/monitor.o \
	src/ossl.o \
	src/path.o \
	src/pem.o \
	src/pg_tls.o \
	src/prepare.o \
	src/reload.o \
	src/row.o \
	src/save.o \
	src/session.o \
	src/signature.o \
	src/verify.o \
	src/watch.o
PGFILEDESC = "pg_tls - see, check and reload TLS"

# may be built elsewhere: make -f /path/to/pg_tls/Makefile
top := $(dir $(firstword $(MAKEFILE_LIST)))
ifneq ($(top),./)
$(shell mkdir -p src)
endif

EXTENSION = pg_tls
# the version stands in the control file alone
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(top)pg_tls.control)
# complete ones and updates; doc/release.md tells how they come about
DATA = $(notdir $(wildcard $(top)pg_tls--*.sql))

PG_CPPFLAGS = -DPGTLS_VERSION='"$(EXTVERSION)"'
SHLIB_LINK = -lssl -lcrypto

# needs a running server with shared_preload_libraries = 'pg_tls'
REGRESS = pg_tls sessions reload verify certificate

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# 13 has with_openssl = yes, later versions with_ssl = openssl
ifeq ($(filter openssl yes,$(with_ssl) $(with_openssl)),)
$(error pg_tls needs a PostgreSQL server that was built with OpenSSL, and the one of $(PG_CONFIG) was not)
endif

# PGXS has no dependency tracking in packaged builds
$(OBJS): $(wildcard $(top)src/*.h) $(top)pg_tls.control
