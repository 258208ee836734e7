# pg_tls/Makefile

MODULE_big = pg_tls
OBJS = \
	src/pg_tls.o \
	src/hooks.o \
	src/work/monitor.o \
	src/work/save.o \
	src/work/status.o \
	src/work/watch.o \
	src/rehearsal/advice.o \
	src/rehearsal/codes.o \
	src/rehearsal/contents.o \
	src/rehearsal/dryrun.o \
	src/rehearsal/findings.o \
	src/rehearsal/reload.o \
	src/client/chain.o \
	src/client/due.o \
	src/client/failure.o \
	src/client/inventory.o \
	src/client/judge.o \
	src/client/reason.o \
	src/client/session.o \
	src/client/slot.o \
	src/client/table.o \
	src/client/verifier.o \
	src/server/crlchange.o \
	src/server/crldir.o \
	src/server/difference.o \
	src/server/fileviews.o \
	src/server/history.o \
	src/server/inspect.o \
	src/server/item.o \
	src/server/load.o \
	src/server/prepare.o \
	src/server/reloads.o \
	src/x509/certificate.o \
	src/x509/certificate_sql.o \
	src/x509/crl.o \
	src/x509/extension.o \
	src/x509/hostname.o \
	src/x509/name.o \
	src/x509/nameindex.o \
	src/x509/pem.o \
	src/x509/signature.o \
	src/x509/verdict.o \
	src/x509/verify.o \
	src/x509/verify_sql.o \
	src/base/child.o \
	src/base/error.o \
	src/base/lookup.o \
	src/base/ossl.o \
	src/base/preload.o \
	src/base/row.o \
	src/base/stream.o \
	src/base/text.o \
	src/base/wake.o \
	src/base/worker.o
PGFILEDESC = "pg_tls - see, check and reload TLS"

# may be built elsewhere: make -f /path/to/pg_tls/Makefile
top := $(dir $(firstword $(MAKEFILE_LIST)))
ifneq ($(top),./)
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

EXTENSION = pg_tls
# the version stands in the control file alone
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(top)pg_tls.control)
# complete ones and updates; doc/release.md tells how they come about
DATA = $(notdir $(wildcard $(top)pg_tls--*.sql))

# files name each other from src/ on
PG_CPPFLAGS = -I$(top)src -DPGTLS_VERSION='"$(EXTVERSION)"'
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
$(OBJS): $(wildcard $(top)src/*.h $(top)src/*/*.h) $(top)pg_tls.control
