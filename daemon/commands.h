/* The commands of `jfs`. Each gets its own argv (argv[0] is the command's name, secrets are wiped in place), prints one line
 * to stderr when it fails, and returns the exit status: 0, 1 failed, 2 usage. */
#ifndef JFS_DAEMON_COMMANDS_H
#define JFS_DAEMON_COMMANDS_H

int cmd_format(int argc, char **argv);
int cmd_mount(int argc, char **argv);
/* As mount(8) calls it: mount.fuse.jfs META-URL MOUNTPOINT [-sfnv] [-o OPTIONS]. */
int cmd_mount_helper(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_flush(int argc, char **argv);
int cmd_bench(int argc, char **argv);

#endif
