// Proves posix_spawn with file actions and attributes, its errors, popen and system().
#include "guest.h"

#include <fcntl.h>
#include <spawn.h>

extern char **environ;

static void run(const char *name, const char *path, char *const argv[],
                const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr)
{
    pid_t child;
    int error = posix_spawn(&child, path, actions, attr, argv, environ);
    if (error)
        say(name, "%s", error_name(error));
    else
        wait_and_say(name, child);
}

int main(void)
{
    char *shell[] = {"sh", "-c", "echo spawned; exit 5", NULL};
    run("plain", "/bin/sh", shell, NULL, NULL);
    run("missing", "/nonexistent", shell, NULL, NULL);
    run("directory", "/tmp", shell, NULL, NULL);

    int pipes[2];
    NEED(pipe(pipes) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    posix_spawn_file_actions_addclose(&actions, pipes[0]);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addchdir_np(&actions, "/");
    char *pwd[] = {"sh", "-c", "pwd; wc -c; test -e /proc/self/fd/1", NULL};
    run("file actions", "/bin/sh", pwd, &actions, NULL);
    char text[100] = {0};
    say("through the pipe", "%s", read(pipes[0], text, sizeof(text) - 1) > 0 ? text : "nothing");
    posix_spawn_file_actions_addclose(&actions, 900);
    posix_spawn_file_actions_adddup2(&actions, 901, 3);
    run("bad file action", "/bin/sh", shell, &actions, NULL);

    posix_spawnattr_t attr;
    sigset_t mask, defaults;
    posix_spawnattr_init(&attr);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGTERM);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    posix_spawnattr_setsigmask(&attr, &mask);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    char *grep[] = {"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", NULL};
    run("attributes", "/bin/grep", grep, NULL, &attr);
    char *kill_self[] = {"sh", "-c", "kill -TERM $$; sleep 5", NULL};
    run("default again", "/bin/sh", kill_self, NULL, &attr);

    pid_t child;
    int error = posix_spawnp(&child, "true", NULL, NULL, (char *[]){"true", NULL}, environ);
    NEED(error == 0);
    wait_and_say("by path search", child);

    FILE *stream = popen("read line; echo got $line >&2; exit 3", "w");
    NEED(stream);
    dup2(1, 2);
    fputs("hello\n", stream);
    say_status("popen", pclose(stream));
    say_status("system", system("exit 9"));
    say_status("system, signal", system("kill -9 $$"));
    stream = popen("echo out", "r");
    NEED(stream && fgets(text, sizeof(text), stream));
    say("popen read", "%s", text);
    pclose(stream);
    return 0;
}
