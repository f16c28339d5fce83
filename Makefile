# Every target sets up what it needs: as root it installs missing tools by apt, else it prints the one
# line to run and ends with status 2. Recipes live in scripts/, so that each can be run by hand.

# Debian keeps nft, ip and conntrack where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help build install demo test check bench fuzz mcu cross image image-lock boot card-test update-test soak

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
	@echo 'make image                  the card: target/image/turnpike-arm64.img.xz (several minutes the first time)'
	@echo 'make image-lock             take today'"'"'s versions of the packages that the card is made of'
	@echo 'make boot [MACHINE=raspi3b] boot that card in an emulator and buy from it [MACHINE=virt MEM=512M] [IDLE=MINUTES]'
	@echo 'make card-test [ONLY=name]  what a card has to survive, in an emulator: power cuts, damage, a full card, bad settings'
	@echo 'make update-test            good and bad updates of that card'
	@echo 'make soak [CUTS=50]         both with many more power cuts, and an update that never gets healthy (hours)'

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

image:
	@scripts/setup.sh image
	@scripts/image.sh

image-lock:
	@scripts/setup.sh image
	@scripts/image_lock.sh

boot:
	@scripts/setup.sh boot
	@scripts/boot.sh sale "$(MACHINE)" "$(MEM)" "$(IDLE)"

card-test:
	@scripts/setup.sh boot
	@scripts/boot.sh faults "$(ONLY)"

update-test:
	@scripts/setup.sh boot
	@scripts/boot.sh updates "$(ONLY)"

soak:
	@scripts/setup.sh boot
	@TURNPIKE_CUTS="$(or $(CUTS),50)" scripts/boot.sh faults "$(ONLY)"
	@TURNPIKE_CUTS="$(or $(CUTS),50)" scripts/boot.sh updates "$(ONLY)"
	@scripts/boot.sh rollback
