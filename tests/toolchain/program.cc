// Exceptions through several frames, and objects that begin and end with the program.
#include <cerrno>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/syscall.h>
#include <unistd.h>

namespace
{
struct Global {
    static int count;
    std::string name;
    explicit Global(std::string name) : name(std::move(name))
    {
        count++;
    }
    ~Global()
    {
        std::cout << "ends " << name << '\n';
    }
};
int Global::count;
Global first("first"), second("second");
thread_local int each = 5;

int deep(int level)
{
    std::vector<int> values(static_cast<size_t>(level) + 1, level);
    if (level == 0)
        throw std::out_of_range("bottom");
    return deep(level - 1) + values.back();
}
} // namespace

int main(int argc, char **argv)
{
    if (argc > 1 && std::string(argv[1]) == "where") {
        bool native = syscall(0x4d564b, 5L) == -1 && errno == ENOSYS;
        std::cout << (native ? "native\n" : "HRT\n");
        return 0;
    }
    try {
        deep(10);
    } catch (const std::exception &error) {
        std::cout << "caught " << error.what() << '\n';
    }
    std::thread([] {
        try {
            throw ++each;
        } catch (int value) {
            std::cout << "thread " << value << '\n';
        }
    }).join();
    std::cout << "globals " << Global::count << " each " << each << '\n';
    return 4;
}
