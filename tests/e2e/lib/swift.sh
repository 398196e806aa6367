#!/bin/sh
# A real S3 server for tests: OpenStack Swift with its S3 interface, one copy, loopback only, signatures verified.
#
#   swift.sh start DIR PORT ACCESS SECRET   installs the Debian packages if missing (root), starts memcached and four
#                                           Swift servers on PORT .. PORT+4, returns when all of them answer
#   swift.sh stop DIR                       ends exactly what start started; returns when it is gone
#
# Starting again in the same DIR finds the same objects. DIR must be on a file system with user xattrs. No bucket is made.
set -eu

packages="swift-proxy swift-account swift-container swift-object memcached"

die() {
	echo "swift.sh: $*" >&2
	exit 1
}

# Packages would start and enable services of their own; we want the programs only.
install_packages() {
	missing=""
	for p in $packages; do
		dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || die "not installed, and only root can:$missing"
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		trap 'exit 1' INT TERM HUP
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
	fi
	apt="apt-get -qq -o DPkg::Lock::Timeout=300"
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends $missing >"$dir/log/apt" 2>&1 ||
		{ $apt update && DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends $missing; } \
			>"$dir/log/apt" 2>&1 || die "cannot install$missing, see $dir/log/apt"
	if command -v systemctl >/dev/null; then
		for p in $missing; do
			for unit in $(dpkg -L "$p" | sed -n 's|.*/systemd/system/\(.*\.service\)$|\1|p'); do
				systemctl disable -q "$unit" 2>/dev/null || true
			done
		done
	fi
}

write_config() {
	umask 077
	cat >"$dir/etc/swift.conf" <<-X
		[swift-hash]
		swift_hash_path_prefix = jfs
		swift_hash_path_suffix = tests
		[storage-policy:0]
		name = one
		default = yes
	X
	n=1
	for kind in account container object; do
		cat >"$dir/etc/$kind.conf" <<-X
			[DEFAULT]
			bind_ip = 127.0.0.1
			bind_port = $((port + n))
			workers = 0
			user = $(id -un)
			swift_dir = $dir/etc
			devices = $dir/srv
			mount_check = false
			log_address = /dev/null
			log_level = ERROR
			recon_cache_path = $dir/run
			[pipeline:main]
			pipeline = healthcheck $kind-server
			[filter:healthcheck]
			use = egg:swift#healthcheck
			[app:$kind-server]
			use = egg:swift#$kind
		X
		n=$((n + 1))
	done
	cat >"$dir/etc/proxy.conf" <<-X
		[DEFAULT]
		bind_ip = 127.0.0.1
		bind_port = $port
		workers = 0
		user = $(id -un)
		swift_dir = $dir/etc
		log_address = /dev/null
		log_level = ERROR
		[pipeline:main]
		pipeline = healthcheck cache s3api oneuser slo proxy-server
		[filter:healthcheck]
		use = egg:swift#healthcheck
		[filter:cache]
		use = egg:swift#memcache
		memcache_servers = 127.0.0.1:$((port + 4))
		[filter:s3api]
		use = egg:swift#s3api
		location = us-east-1
		dns_compliant_bucket_names = false
		auth_pipeline_check = false
		[filter:oneuser]
		paste.filter_factory = jfs_oneuser:factory
		access = $access
		secret = $secret
		[filter:slo]
		use = egg:swift#slo
		[app:proxy-server]
		use = egg:swift#proxy
		account_autocreate = true
		allow_account_management = true
	X
	# Swift's own test authentication wants access keys of the form account:user; this takes any one pair.
	cat >"$dir/etc/jfs_oneuser.py" <<-'X'
		from swift.common.swob import HTTPUnauthorized

		def deny(request):
		    return HTTPUnauthorized(request=request)

		def factory(global_conf, access, secret, **conf):
		    def wrap(app):
		        def check(env, start_response):
		            signed = env.get('s3api.auth_details')
		            known = signed and signed['access_key'] == access and signed['check_signature'](secret)
		            env['swift.authorize'] = (lambda request: None) if known else deny
		            env['swift_owner'] = bool(known)
		            if known:
		                env['REMOTE_USER'] = access
		            return app(env, start_response)
		        return check
		    return wrap
	X
}

write_rings() {
	/usr/bin/python3 - "$dir/etc" "$port" <<-'X'
		import os, sys
		from swift.common.ring import RingBuilder
		etc, port = sys.argv[1], int(sys.argv[2])
		for n, kind in enumerate(("account", "container", "object"), 1):
		    b = RingBuilder(6, 1, 1)
		    b.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port + n, "device": "d1", "weight": 1.0})
		    b.rebalance(seed=1)
		    b.get_ring().save(os.path.join(etc, kind + ".ring.gz"))
	X
}

ended() {
	case "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)" in
	'' | Z*) return 0 ;;
	esac
	return 1
}

start_one() { # NAME COMMAND...
	name=$1
	shift
	PYTHONPATH=$dir/etc SWIFT_DIR=$dir/etc "$@" </dev/null >"$dir/log/$name" 2>&1 &
	echo $! >"$dir/run/$name.pid"
}

# Until each server answers, or one of them has ended, or a minute has passed.
wait_ready() {
	/usr/bin/python3 - "$port" "$dir"/run/*.pid <<-'X' || die "not all servers came up, see $dir/log"
		import http.client, os, socket, sys, time
		port, end = int(sys.argv[1]), time.monotonic() + 60
		pids = [int(open(f).read()) for f in sys.argv[2:]]

		def answers(p):
		    try:
		        if p == port + 4:
		            socket.create_connection(("127.0.0.1", p), 5).close()
		            return True
		        c = http.client.HTTPConnection("127.0.0.1", p, timeout=5)
		        c.request("GET", "/healthcheck")
		        return c.getresponse().status == 200
		    except OSError:
		        return False

		left = list(range(port, port + 5))
		while left:
		    left = [p for p in left if not answers(p)]
		    for pid in pids:
		        if not os.path.exists("/proc/%d" % pid):
		            sys.exit("swift.sh: a server has ended")
		    if time.monotonic() > end:
		        sys.exit("swift.sh: no answer on port %s" % left)
		    time.sleep(0.02)
	X
}

# A pid file outlives a crash of the machine: kill only what has this DIR on its command line.
stop_all() {
	for f in "$dir"/run/*.pid; do
		[ -e "$f" ] || continue
		pid=$(cat "$f")
		if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$dir/"; then
			kill "$pid" 2>/dev/null || true
			tries=0
			until ended "$pid"; do
				tries=$((tries + 1))
				[ $tries != 500 ] || kill -9 "$pid" 2>/dev/null || true
				sleep 0.02
			done
		fi
		rm -f "$f"
	done
}

case "${1-} $#" in
"start 5")
	mkdir -p "$2"
	dir=$(cd "$2" && pwd -P) port=$3 access=$4 secret=$5
	mkdir -p "$dir/etc" "$dir/srv/d1" "$dir/run" "$dir/log"
	install_packages
	/usr/bin/python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.jfs", b"1")' "$dir/srv" 2>/dev/null ||
		die "$dir is on a file system without user xattrs, which Swift needs"
	write_config
	write_rings >"$dir/log/rings" 2>&1 || die "cannot make the rings, see $dir/log/rings"
	stop_all
	start_one memcached memcached -u "$(id -un)" -l 127.0.0.1 -p $((port + 4)) -m 64 -P "$dir/run/memcached"
	for kind in account container object proxy; do
		start_one $kind swift-$kind-server "$dir/etc/$kind.conf"
	done
	if ! (wait_ready); then
		stop_all
		exit 1
	fi
	;;
"stop 2")
	dir=$(cd "$2" 2>/dev/null && pwd -P) || exit 0
	stop_all
	;;
*)
	die "usage: swift.sh start DIR PORT ACCESS SECRET | swift.sh stop DIR"
	;;
esac
