# Every target sets up what it needs: as root it installs missing tools by apt, else it prints the one
# line to run and ends with status 2. Recipes live in scripts/, so that each can be run by hand.

# Debian keeps nft, ip and conntrack where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help build install demo test check bench fuzz mcu cross

help:
	@echo 'make build                  the programs, in target/release (several minutes the first time)'
	@echo 'make install                them, a systemd unit and completions [PREFIX=/usr/local] [DESTDIR=]'
	@echo 'make demo [CHAIN=bitcoind]  a whole sale on this machine: real traffic, paid by the window, settled'
	@echo 'make test                   build, replay the golden vectors on a Cortex-M4, run every test'
	@echo 'make check                  format, lints, docs, licences, no_std build, file sizes, words'
	@echo 'make bench [ONLY=name]      measure; prints a table and writes target/bench.json'
	@echo 'make fuzz [SECONDS=60]      feed hostile bytes and event lists to the protocol, each target that long (first build: 1 min)'
	@echo 'make mcu                    the golden vectors on an emulated Cortex-M4, and its memory figures'
	@echo 'make cross                  static binaries for the Pi (aarch64), run once under an emulator'

build:
	@scripts/setup.sh build
	cargo build --locked --release -p turnpike-firmware --bins

install:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" BUILD="$(BUILD)" scripts/install.sh

demo:
	@scripts/setup.sh demo
	@scripts/demo.sh "$(CHAIN)"

test:
	@scripts/setup.sh test
	@scripts/test.sh

check:
	@scripts/setup.sh check
	@scripts/check.sh

bench:
	@scripts/setup.sh bench
	cargo build --locked --release -p turnpike-firmware -p turnpike-tests --bins
	target/release/bench $(ONLY)

fuzz:
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh $(or $(SECONDS),60) $(ONLY)

mcu:
	@scripts/setup.sh mcu
	@scripts/mcu.sh

cross:
	@scripts/setup.sh cross
	@scripts/cross.sh
