#!/bin/busybox sh
# Runs as init of the guest. Lines that begin with RESULT are for the host.
b=/bin/busybox
export PATH=/bin TMPDIR=/var/tmp GTEST_COLOR=no
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs run /run
$b mkdir /dev/shm
$b mount -t tmpfs shm /dev/shm
$b mount -o remount,rw /
echo "RESULT boot $($b uname -r)"

# Patience is for a machine, not for an emulated one: a hundred of a thing are left out.
mount_test --gtest_filter='*/EngineConformance*:EngineSet.*:Erofs*Engine.*:*/Takeover.*-*AHundred*' > /run/tests 2>&1
code=$?
$b grep -E '^\[ +FAILED +\].*ms' /run/tests
$b grep -A6 'Failure' /run/tests | $b head -150
passed=$($b grep -c '^\[       OK' /run/tests)
skipped=$($b grep -c '^\[  SKIPPED \] .*ms)' /run/tests)
failed=$($b grep -c '^\[  FAILED  \] .*ms)' /run/tests)
[ "$code" -gt 1 ] && { $b tail -20 /run/tests; failed=$((failed + 1)); }
echo "RESULT tests $passed $failed $skipped"

lazy() {
  $b mkdir -p "/var/lib/pagein-$1" /run/pagein "/mnt/$1" /etc/pagein
  printf 'root = "/var/lib/pagein-%s"\n[mount]\nengine = "%s"\n' "$1" "$1" > /etc/pagein/pageind.toml
  pageind > "/run/log-$1" 2>&1 &
  pid=$!
  for try in $($b seq 60); do [ -S /run/pagein/control.sock ] && break; $b sleep 1; done
  pagein doctor > "/run/doctor-$1"
  usable=$?
  $b test -s "/run/doctor-$1" || usable=1
  engine=$($b sed -n 's/^ok   engine \(.*\) (chosen)/\1/p' "/run/doctor-$1")
  engine=${engine:-none}
  if [ $usable -ne 0 ]; then
    echo "RESULT lazy $1 none skip $($b sed -n 's/^FAIL //p' "/run/doctor-$1" | $b head -1)"
  elif ! pagein mount oci:/image:fast "/mnt/$1"; then
    echo "RESULT lazy $1 $engine fail cannot mount"
  elif (cd "/mnt/$1" && $b sha256sum -c /image.sha256 > /run/sums 2>&1); then
    echo "RESULT lazy $1 $engine pass"
  else
    $b cat /run/sums
    echo "RESULT lazy $1 $engine fail wrong bytes"
  fi
  [ "$1" = auto ] && $b cat "/run/doctor-$1"
  [ $usable -ne 0 ] || pagein umount "/mnt/$1"
  kill "$pid"
  wait "$pid"
  $b rm -f /run/pagein/control.sock
  $b tail -3 "/run/log-$1"
}
for engine in auto erofs erofs-loop fuse; do lazy $engine; done
for loop in /sys/block/loop*/loop; do [ -e "$loop" ] && echo "RESULT leak $loop"; done
echo "RESULT end"
$b poweroff -f
