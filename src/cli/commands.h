/* commands.h -- the commands, one file each. argv[0] is the name of the command. The result is an
 * enum cli_status. */
#ifndef SHARENA_CLI_COMMANDS_H
#define SHARENA_CLI_COMMANDS_H

int command_create(int argc, char **argv);
int command_info(int argc, char **argv);
int command_map(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_check(int argc, char **argv);
int command_ps(int argc, char **argv);
int command_ls(int argc, char **argv);
int command_reap(int argc, char **argv);
int command_purge(int argc, char **argv);
int command_top(int argc, char **argv);
int command_prof(int argc, char **argv);
int command_snapshot(int argc, char **argv);
int command_rm(int argc, char **argv);

#endif
