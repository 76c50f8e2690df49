# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts daemon_ship*.sh share, beside daemon_lib.sh: servers of NATS on the loopback, writers, the account of
# what is in a stream.
ship=$top_builddir/tests/cli/daemon_ship
export writer=$ship
command -v nats-server >/dev/null || PATH=$PATH:/usr/sbin
command -v nats-server >/dev/null || { echo "no nats-server: install it to run this test"; exit 77; }
[ -x "$ship" ] || { echo "built without NATS"; exit 77; }
export logs=$work/logs
export SHMALLOC_SOCKET=$socket
: "${SHMA_TEST_SEED:=$RANDOM$RANDOM}"
export SHMA_TEST_SEED
echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"

# servers N : configured, none of them started; all their addresses in $urls.
servers()
{
	local routes='' i
	mapfile -t port < <("$ship" ports $((2 * $1)))
	urls=''
	for ((i = 0; i < $1; i++)); do
		routes="$routes nats://127.0.0.1:${port[$1 + i]}"
		urls=$urls,nats://127.0.0.1:${port[i]}
	done
	urls=${urls#,}
	for ((i = 0; i < $1; i++)); do
		cat >"$work/nats$i.conf" <<-END
			listen: "127.0.0.1:${port[i]}"
			server_name: n$i
			jetstream { store_dir: "$work/nats$i", max_memory_store: 64M, max_file_store: 2G }
		END
		[ "$1" = 1 ] || cat >>"$work/nats$i.conf" <<-END
			cluster { name: c, listen: "127.0.0.1:${port[$1 + i]}", routes: [ ${routes// /, } ] }
		END
		sed -i 's/\[ , /[ /' "$work/nats$i.conf"
	done
}

# server I : starts it; its process in ${server[I]}. It ends with this script, whatever becomes of it.
server()
{
	setpriv --pdeathsig KILL nats-server -c "$work/nats$1.conf" >>"$work/nats$1.log" 2>&1 &
	server[$1]=$!
	pids+=($!)
	eventually 5 listens "$1" || fail "nats-server does not start: $(cat "$work/nats$1.log")"
}

listens()
{
	kill -0 "${server[$1]}" && (: <"/dev/tcp/127.0.0.1/${port[$1]}") 2>/dev/null
}

# crash I : and it has ended.
crash()
{
	kill -9 "${server[$1]}"
	wait "${server[$1]}" 2>/dev/null || true
}

# configure LINE… : so many records a message as $batch says.
batch=1
configure()
{
	config=$work/conf
	{
		echo '[daemon]'
		printf '%s\n' "ship = $urls" "ship-batch = $batch" "$@"
	} >"$config"
}

stream=SHMALLOC_$name

# at_end : its last sequence, by whichever server answers.
at_end()
{
	local url
	for url in ${urls//,/ }; do
		timeout 4 "$ship" end "$url" "$stream" 2>/dev/null && return
	done
	echo 0
}

reaches()
{
	[ "$(at_end)" -ge "$1" ]
}

# more SECONDS RECORDS WHAT-IT-SHOWS : so many more come, than there are or than were seen last; $reached is the end then.
reached=0
more()
{
	local before
	before=$(at_end)
	[ "$before" -ge "$reached" ] || before=$reached
	eventually "$1" reaches $((before + $2)) || fail "$3: nothing comes after $before"
	reached=$((before + $2))
	echo "ok: $3: $before, then $reached and more"
}

# The process that ships, of the daemon's children.
shipper()
{
	cat "/proc/$daemon/task/$daemon/children"
}

account()
{
	local url
	for url in ${urls//,/ }; do
		if timeout 60 "$ship" check "$url" "$stream" "$1" >"$work/account" 2>>"$work/err.check"; then
			eval "$(tr ' ' '\n' <"$work/account")"
			return
		fi
	done
	return 1
}

# once WRITERS : each record is there, once, or was counted as overwritten before any daemon drained it.
once()
{
	complete()
	{
		account "$1" && [ $((records + lost)) -ge "$written" ]
	}
	eventually 20 complete "$1" || fail "$written written: $(cat "$work/account" "$work/err.check")"
	sed 's/^/  /' "$work/account"
	expect "no record is there twice" "$duplicates" 0
	expect "each is what was written" "$wrong" 0
	expect "of $written none is missing but what was counted" $((records + lost)) "$written"
	[ "$batch" -gt 1 ] || expect "there is nothing else" "$messages" "$records"
	[ "$messages" -le "$records" ] || fail "$messages messages"
	expect "each writer's are in order" "$disorder" 0
}
