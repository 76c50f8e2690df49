#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tools/packages.sh PACKAGE… : makes sure that these Debian packages are installed. As root it installs
# what is missing; else it says what is, and exits with 1.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

missing=
for package; do
	case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
	*' installed') ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "missing packages; install them with: apt-get install$missing" >&2
	exit 1
fi
echo "installing$missing" >&2
# Lists may be absent or old: fetch them only if the packages as known cannot be had.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 </dev/null || {
	apt-get update -qq </dev/null >&2
	apt-get install -y -qq --no-install-recommends $missing </dev/null >&2
}
