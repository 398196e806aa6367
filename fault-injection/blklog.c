/* blklog MOUNTPOINT BASE LOG [MAX_LOG_MB]: a disk whose every write and flush is on record.
 *
 * A FUSE file system with two files. `disk` is the image BASE (which stays as it is: changes live in memory); a loop
 * device goes on it. `mark` takes the test's own remarks ("operation 17 was reported synced"). Each write to either and
 * each flush of `disk` is appended to LOG, in one total order: the session loop has a single thread, so a write that was
 * answered before a flush was asked for stands before it. powercut makes from this log what a power cut could leave.
 *
 * Prints "ready" when mounted; ends with SIGTERM or with umount. If the log would pass MAX_LOG_MB (default 2048), or
 * cannot be written, the disk answers EIO from then on, as a dead device does: nothing goes unrecorded. */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blklog.h"
#include "util/parse.h"

enum { INO_ROOT = FUSE_ROOT_ID, INO_DISK, INO_MARK };
#define FOREVER 1e6

static uint8_t *disk;
static size_t disk_size;
static int log_fd;
static uint64_t log_size, log_max;
static bool log_failed;

/* Appends one record; 0 or a positive errno for the reply. A torn record ends the log for good. */
static int log_append(enum blklog_type type, uint64_t off, const void *data, size_t len)
{
	struct blklog_rec rec = {.type = type, .len = (uint32_t)len, .off = off};
	struct iovec iov[2] = {{&rec, sizeof(rec)}, {(void *)data, len}};
	ssize_t n;

	if (log_failed || log_size + sizeof(rec) + len > log_max)
		return EIO;
	n = writev(log_fd, iov, len ? 2 : 1);
	if (n != (ssize_t)(sizeof(rec) + len)) {
		fprintf(stderr, "blklog: log: %s\n", n < 0 ? strerror(errno) : "short write");
		log_failed = true;
		return EIO;
	}
	log_size += (uint64_t)n;
	return 0;
}

static bool ino_stat(fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){.st_ino = ino, .st_nlink = 1, .st_mode = S_IFREG | 0600};
	if (ino == INO_ROOT)
		st->st_mode = S_IFDIR | 0700;
	else if (ino == INO_DISK)
		st->st_size = (off_t)disk_size;
	else if (ino != INO_MARK)
		return false;
	return true;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.attr_timeout = FOREVER, .entry_timeout = FOREVER};

	e.ino = strcmp(name, "disk") == 0 ? INO_DISK : strcmp(name, "mark") == 0 ? INO_MARK : 0;
	if (parent != INO_ROOT || !e.ino) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	ino_stat(e.ino, &e.attr);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (ino_stat(ino, &st))
		fuse_reply_attr(req, &st, FOREVER);
	else
		fuse_reply_err(req, ENOENT);
}

/* Both files have the size they have: O_TRUNC (a shell's `>`) on `mark` is accepted and changes nothing. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	(void)attr;
	if (ino == INO_DISK && to_set & FUSE_SET_ATTR_SIZE)
		fuse_reply_err(req, EPERM);
	else
		op_getattr(req, ino, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1; /* the kernel must neither delay nor merge what the device is told */
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	if (ino != INO_DISK || (size_t)off >= disk_size)
		size = 0;
	else if (size > disk_size - (size_t)off)
		size = disk_size - (size_t)off;
	fuse_reply_buf(req, size ? (char *)disk + off : NULL, size);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	int err;

	(void)fi;
	if (size > BLKLOG_LEN_MAX || (ino == INO_DISK && ((size_t)off > disk_size || size > disk_size - (size_t)off))) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	err = log_append(ino == INO_DISK ? BLKLOG_WRITE : BLKLOG_MARK, (uint64_t)off, data, size);
	if (err) {
		fuse_reply_err(req, err);
		return;
	}
	if (ino == INO_DISK)
		memcpy(disk + off, data, size);
	fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync, (void)fi;
	fuse_reply_err(req, ino == INO_DISK ? log_append(BLKLOG_FLUSH, 0, NULL, 0) : 0);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
};

static int disk_open(const char *base)
{
	struct stat st;
	int fd = open(base, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	disk_size = (size_t)st.st_size;
	disk = mmap(NULL, disk_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	return disk == MAP_FAILED ? -errno : 0;
}

static int session_run(const char *mountpoint)
{
	char *argv[] = {"blklog", "-o", "fsname=blklog", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	int rc = 1;

	if (!se)
		goto out;
	if (fuse_set_signal_handlers(se) < 0 || fuse_session_mount(se, mountpoint) < 0)
		goto out;
	printf("ready\n");
	fflush(stdout);
	rc = fuse_session_loop(se) < 0;
	fuse_session_unmount(se);
	fuse_remove_signal_handlers(se);
out:
	if (se)
		fuse_session_destroy(se);
	fuse_opt_free_args(&args);
	return rc;
}

int main(int argc, char **argv)
{
	uint64_t max_mb = 2048;
	int err;

	if (argc < 4 || argc > 5 || (argc == 5 && (parse_u64(argv[4], &max_mb) || max_mb > 1u << 20))) {
		fprintf(stderr, "usage: blklog MOUNTPOINT BASE LOG [MAX_LOG_MB]\n");
		return 2;
	}
	log_max = max_mb << 20;
	err = disk_open(argv[2]);
	if (err) {
		fprintf(stderr, "blklog: %s: %s\n", argv[2], strerror(-err));
		return 1;
	}
	log_fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0) {
		fprintf(stderr, "blklog: %s: %s\n", argv[3], strerror(errno));
		return 1;
	}
	return session_run(argv[1]);
}
