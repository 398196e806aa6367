/* What `jfs mount` and fstab can say: JuiceFS's names, units and defaults (spec 6.5), ours, and mount(8)'s. */
#ifndef JFS_DAEMON_MOUNT_OPTIONS_H
#define JFS_DAEMON_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/options.h"
#include "daemon/transport.h"
#include "util/buf.h"
#include "util/errmsg.h"

struct mount_options {
	/* where: the arguments */
	const char *meta_url, *mountpoint; /* owned by `args` */

	/* how to run */
	bool foreground, background, debug, quiet, verbose;
	char *log, *subdir, *transport;
	bool no_syslog, force, remount, poll;
	bool read_only, takeover, offline;

	/* data */
	bool writeback;
	uint64_t upload_delay_ns, buffer_size, cache_size, pack_below;
	double free_space_ratio;
	char *cache_dir, *refused[3];
	uint64_t max_uploads, max_downloads, max_deletes, io_retries;
	uint64_t get_timeout_ns, put_timeout_ns;
	char *storage, *bucket, *storage_class; /* for this client only */

	/* journal */
	char *durability, *publish, *hot_dir;
	uint64_t sync_interval_ns;
	uint64_t heartbeat_ns;
	bool no_bgjob;
	char *atime_mode;

	/* tests */
	bool local_only, allow_any_fs, data_waits;
	uint64_t threads, ring_payload, dirty_limit, hot_size, retention_ns, log_limit;

	bool rebasing; /* this mount is the one that jfs-recover rebase works through */

	/* decided from the texts */
	bool strict, eager, strict_atime, no_atime, no_xattr, allow_other;
	enum transport_kind transport_kind;
	struct buf kernel_options; /* for the kernel's mount, comma separated */

	struct options_result args;
};

extern const struct options_spec mount_spec;

/* Defaults, then the command line, then what the texts mean. 0 or -EINVAL with a message (-ENOMEM). With --help given only
 * o->args.help is set. mount_options_fini is allowed, and due, in any case. */
int mount_options_parse(struct mount_options *o, int argc, char **argv, struct errmsg *e);
void mount_options_fini(struct mount_options *o);
/* mount(8)'s call (URL MOUNTPOINT [-sfnv] [-N NS] [-t TYPE] [-o LIST]) as a command line of `jfs mount`, in `out` (room for
 * argc + 3 pointers into argv). Returns the new argc; *fake: -f, do nothing. */
int mount_helper_args(int argc, char **argv, char **out, bool *fake);

#endif
