# SPDX-License-Identifier: GPL-2.0-or-later

help:
	@echo 'make demo    build the package and show it at work: a kernel, its hook, modules, a boot'
	@echo 'make check   what takes no hours: lints, unit tests, tests in throwaway roots, a boot'
	@echo 'make deb     build the package, into target/deb'
	@echo 'make corpus  26 real packages on kernels of all flavours, and all commands that are compared, by us and by'
	@echo '             Debian (some hours)'
	@echo 'make bench   how fast ours and Debian'"'"'s are, row by row: ROW=name for one, LIST=1 says which there are'
	@echo 'make torture faults, power cuts, crowds, attacks and foreign bytes, for MINUTES=60: PART=name for one of them'
	@echo 'make lint    rustfmt, clippy, rustdoc and shellcheck'
	@echo 'make clean   remove what all of these made'
	@echo
	@echo 'All of it works on Debian 12 and 13 and fetches what it needs by apt. Root is needed for'
	@echo 'that and to mount the throwaway roots; sudo is used where there is one.'

demo:
	@tests/needs demo
	@$(MAKE) --no-print-directory deb
	@tests/demo

check:
	@tests/needs check
	@$(MAKE) --no-print-directory lint
	cargo test --locked --lib --bins
	@$(MAKE) --no-print-directory -j 2 deb layers
	lintian --fail-on error,warning target/deb/dkms-rs*.deb
	tests/throwaway prepare warm
	RUST_TEST_THREADS=4 cargo test --locked --test main

# What throwaway roots stand on beside the package.
layers:
	tests/throwaway prepare bare
	tests/throwaway prepare newer
	tests/throwaway prepare peer

corpus:
	@tests/needs build
	@$(MAKE) --no-print-directory deb
	WHOLE=yes cargo test --locked --test main -- differential::
	cargo test --locked --test main -- --ignored --exact corpus::whole --nocapture

bench:
ifdef LIST
	@tests/bench/run --list
else
	@tests/needs build
	@$(MAKE) --no-print-directory deb
	@tests/bench/run $(ROW)
endif

torture:
	@tests/needs demo
	@$(MAKE) --no-print-directory deb
	@tests/torture/run $(PART)

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	shellcheck $(shell grep -rlE --exclude-dir=dkms-rs --exclude='*.rs' '^#!/bin/(ba)?sh' tests etc debian .ci)
	shellcheck tests/differential/lib.sh tests/differential/scripts/*
	shellcheck --shell=bash debian/completions/dkms
	! command -v zsh >/dev/null || zsh -n debian/completions/_dkms
	! command -v fish >/dev/null || fish --no-execute debian/completions/dkms.fish

# dpkg-buildpackage writes beside its tree, so it gets a copy that has target/deb beside it, and it
# counts its jobs by itself. The unit tests are left to `make check`.
sources := $(shell find Cargo.toml Cargo.lock FLEET.md LICENSE src hooks etc debian -type f \
	-not -path 'debian/dkms-rs*/*' -not -path 'debian/.debhelper/*')

deb: target/deb/built

target/deb/built: $(sources)
	@tests/needs build
	mkdir -p target/deb/source
	find target/deb -mindepth 1 -maxdepth 1 -type f -delete
	find target/deb/source -mindepth 1 -maxdepth 1 -not -name target -exec rm -r {} +
	tar --exclude=./target --exclude=./.git -c . | tar -x -C target/deb/source
	cd target/deb/source && env -u MAKEFLAGS -u MFLAGS DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -b -us -uc
	touch $@

clean:
	rm -rf target 2>/dev/null || sudo rm -rf target

.PHONY: help demo check layers corpus bench torture lint deb clean
