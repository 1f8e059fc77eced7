# The commands people type; the build itself is CMake (CMakePresets.json).
#
#   make demo     install what it needs, build, show a lazy start beside a plain one
#   make check    install what it needs, build, run every test
#   make build    binaries in build/bin/
#   make check-kernels  run the mount engines on Debian's stock kernels in QEMU
#   make bench    measure; writes bench/RESULTS.md
#   make lint     clang-format and clang-tidy
#   make install  into PREFIX (default /usr/local), DESTDIR respected

PREFIX ?= /usr/local
BUILD := build
JOBS ?= $(shell nproc)

.PHONY: all build check check-kernels unit demo bench lint format install clean

all: build

$(BUILD)/build.ninja:
	cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX)

build:
	scripts/install-deps.sh build
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	ninja -C $(BUILD) -j $(JOBS)

check:
	scripts/install-deps.sh test
	@$(MAKE) --no-print-directory build
	scripts/check.sh

check-kernels:
	scripts/install-deps.sh kernels
	@$(MAKE) --no-print-directory build
	/usr/bin/python3 tests/kernels/check_kernels.py

unit: build
	ctest --test-dir $(BUILD) -L unit -j $(JOBS) --output-on-failure

demo:
	scripts/install-deps.sh demo
	@$(MAKE) --no-print-directory build
	/usr/bin/python3 tests/demo.py

bench:
	scripts/install-deps.sh bench
	@$(MAKE) --no-print-directory build
	/usr/bin/python3 bench/run.py

lint:
	scripts/install-deps.sh lint
	scripts/lint.sh

format:
	git ls-files '*.h' '*.cpp' | xargs clang-format -i

install: build
	cmake --install $(BUILD) --prefix $(PREFIX) --strip

clean:
	rm -rf $(BUILD)
