# One non-recursive Makefile. Rooms are folders; every .c of a room goes into that room's archive, every
# *_main.c into no archive: it is a program of its own. Adding a file needs no change here.
#
#   make                 build/jfs, build/jfs-recover, build/mount.fuse.jfs
#   make unit            build and run the unit tests
#   make test            everything (what ./tests/run calls)
#   make faults          ten minutes of crashes; faults-long: until Ctrl-C
#   make bench           the goals and the benchmark table
#   make bench-profile   a flame graph of the daemon while files are created: BUILD/profile.svg (needs perf)
#   make bench-backlog   a mount after a crash with a million operations, and fsync against ext4
#   make long            the long runs of tests/posix/long: hours (LONG=PATTERN: one of them)
#   make bench-long      a mount that fills with ten million files (BENCH_LONG=--files=1000000 for fewer)
#   make bench-transport both ways of requests, each beside a file system that does no work
#   make bench-outage    Redis away for an hour, then a stock gc beside the replay (needs JUICEFS)
#   make install         DESTDIR= PREFIX=/usr/local
# Variables: BUILD=dir, SAN=address|undefined|thread (comma separated), CFLAGS, WERROR=1

BUILD   ?= build
# One name for one folder, or objects of one would not know the headers of the other.
override BUILD := $(patsubst $(CURDIR)/%,%,$(BUILD))
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

CC      ?= cc
CFLAGS  ?= -O2 -g
PKGS    := fuse3 lmdb hiredis libcurl libzstd liblz4 jansson libxxhash libcrypto libsystemd
JFS_CFLAGS := -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 -DJFS_VERSION='"$(VERSION)"' -I. -pthread \
	$(shell pkg-config --cflags $(PKGS))
LIBS    := $(shell pkg-config --libs $(PKGS)) -pthread -lm
ifndef V
Q := @
endif
ifdef WERROR
JFS_CFLAGS += -Werror
endif
ifdef SAN
JFS_CFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
LIBS       += -fsanitize=$(SAN)
endif

ROOMS   := util journal redis s3 daemon recovery
# Link order: who uses whom, from the top down.
LINK    := daemon recovery redis s3 journal util
room_src = $(filter-out %_main.c,$(wildcard $(1)/*.c))
room_obj = $(patsubst %.c,$(BUILD)/%.o,$(call room_src,$(1)))
ARCHIVES := $(foreach r,$(LINK),$(BUILD)/lib$(r).a)

PROGRAMS   := $(BUILD)/jfs $(if $(wildcard recovery/recover_main.c),$(BUILD)/jfs-recover) $(BUILD)/mount.fuse.jfs
SEAM       := $(BUILD)/fault-injection/libseam.so
FAULT_BINS := $(patsubst fault-injection/%.c,$(BUILD)/fault-injection/%,$(filter-out %/seam.c,$(wildcard fault-injection/*.c))) $(SEAM)
BENCH_BINS := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/*.c))
LONG_BINS  := $(patsubst tests/posix/long/%.c,$(BUILD)/tests/posix/long/%,$(wildcard tests/posix/long/*.c))
E2E_BINS   := $(patsubst tests/e2e/%.c,$(BUILD)/tests/e2e/%,$(wildcard tests/e2e/*.c))
UNIT_BINS  := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
FUZZ_BINS  := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all unit unit-bins test faults faults-long long bench bench-profile bench-backlog bench-long bench-transport bench-outage quickstart install clean tools
.SECONDARY:
all: $(PROGRAMS)
tools: $(FAULT_BINS) $(BENCH_BINS) $(E2E_BINS) $(LONG_BINS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(JFS_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/redis/apply_lua.o: redis/apply.lua

define room_archive
$(BUILD)/lib$(1).a: $(call room_obj,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_archive,$(r))))

define link_program
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) $(JFS_CFLAGS) -o $@ $< -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(LDFLAGS) $(LIBS)
endef
$(BUILD)/jfs: $(BUILD)/daemon/jfs_main.o $(ARCHIVES)
	$(link_program)
$(BUILD)/jfs-recover: $(BUILD)/recovery/recover_main.o $(ARCHIVES)
	$(link_program)
$(BUILD)/mount.fuse.jfs: $(BUILD)/jfs
	ln -sf jfs $@
$(SEAM): fault-injection/seam.c
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) $(JFS_CFLAGS) -fPIC -shared -o $@ $< -ldl
$(BUILD)/fault-injection/%: $(BUILD)/fault-injection/%.o $(ARCHIVES)
	$(link_program)
$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(ARCHIVES)
	$(link_program)
$(BUILD)/tests/e2e/%: $(BUILD)/tests/e2e/%.o $(ARCHIVES)
	$(link_program)
$(BUILD)/tests/posix/long/%: $(BUILD)/tests/posix/long/%.o $(ARCHIVES)
	$(link_program)
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(ARCHIVES)
	$(link_program)
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(ARCHIVES)
	$(link_program)

unit-bins: $(UNIT_BINS)
unit: $(UNIT_BINS)
	@fail=0; for t in $(UNIT_BINS); do $$t || { echo "FAILED: $$t"; fail=1; }; done; exit $$fail

test:
	python3 tests/e2e/lib/runall.py
# Crashes: ten minutes of them, or until Ctrl-C; with FAULTS_RESULTS a run goes on where the last one stopped.
FAULTS_RESULTS ?= $(BUILD)/faults.jsonl
faults: all tools
	JFS_BUILD=$(abspath $(BUILD)) fault-injection/campaign --seconds 600 --results $(FAULTS_RESULTS)
faults-long: all tools
	JFS_BUILD=$(abspath $(BUILD)) fault-injection/campaign --results $(FAULTS_RESULTS)
bench: all tools
	JFS_BUILD=$(abspath $(BUILD)) tests/bench/run

LONG ?= *
long: all tools
	JFS_LONG_RESULTS=$(abspath $(BUILD))/long.txt JFS_BUILD=$(abspath $(BUILD)) nice -n 19 \
		python3 tests/posix/long/long_runs.py --only '$(LONG)'
bench-profile: all tools
	JFS_BUILD=$(abspath $(BUILD)) python3 tests/bench/flame.py --out $(BUILD)/profile.svg
bench-backlog: all
	JFS_BUILD=$(abspath $(BUILD)) python3 tests/bench/backlog.py
bench-long: all tools
	JFS_BUILD=$(abspath $(BUILD)) python3 tests/bench/long.py $(BENCH_LONG)
bench-transport: all tools
	JFS_BUILD=$(abspath $(BUILD)) python3 tests/bench/transport.py
bench-outage: all
	JFS_BUILD=$(abspath $(BUILD)) python3 tests/bench/outage.py
quickstart: all
	BUILD=$(BUILD) tests/demo/quickstart.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/sbin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0755 $(BUILD)/jfs $(BUILD)/jfs-recover $(DESTDIR)$(PREFIX)/bin/
	ln -sf $(PREFIX)/bin/jfs $(DESTDIR)/sbin/mount.fuse.jfs
	for p in $(wildcard man/*.1); do install -m 0644 $$p $(DESTDIR)$(PREFIX)/share/man/man1/; done
	for p in $(wildcard man/*.8); do install -m 0644 $$p $(DESTDIR)$(PREFIX)/share/man/man8/; done

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
