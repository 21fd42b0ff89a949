/* Kernel launches: what a device would refuse, and the kernel's name for messages. */
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rodeo_emulator
{

static std::string demangled(const char *name)
{
    int status = 0;
    char *text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    std::string result = text != nullptr ? text : name;
    std::free(text);
    return result;
}

/* The function that starts at `offset` in an ELF file that lies at `file`. */
static std::string symbol_at(const char *file, uint64_t offset)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)file;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(file + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB) {
            continue;
        }
        const ElfW(Sym) *symbols = (const ElfW(Sym) *)(file + sections[i].sh_offset);
        const char *names = file + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof(*symbols); k++) {
            if (symbols[k].st_value == offset && (symbols[k].st_info & 0xf) == STT_FUNC) {
                return demangled(names + symbols[k].st_name);
            }
        }
    }
    return "(of unknown name)";
}

static int find_program(dl_phdr_info *info, size_t, void *result)
{
    *(uint64_t *)result = info->dlpi_addr;
    return 1;
}

std::string kernel_name(const void *kernel)
{
    static std::map<const void *, std::string> known;
    std::string &name = known[kernel];
    if (name.empty()) {
        name = "(of unknown name)";
        int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        struct stat info;
        if (fd >= 0 && fstat(fd, &info) == 0) {
            void *file = mmap(nullptr, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (file != MAP_FAILED) {
                uint64_t program = 0;
                dl_iterate_phdr(find_program, &program);
                name = symbol_at((const char *)file, (uint64_t)(uintptr_t)kernel - program);
                munmap(file, (size_t)info.st_size);
            }
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return name;
}

static bool is_within(dim3 d, unsigned x, unsigned y, unsigned z)
{
    return d.x >= 1 && d.y >= 1 && d.z >= 1 && d.x <= x && d.y <= y && d.z <= z;
}

cudaError_t launch(const cudaLaunchConfig_t *config, const void *kernel, size_t parameter_bytes,
                   Kernel run)
{
    Lock lock(state().mutex);
    dim3 grid = config->gridDim;
    dim3 block = config->blockDim;
    std::string name = kernel_name(kernel);
    if (!is_within(grid, 0x7fffffffu, 65535, 65535) || !is_within(block, 1024, 1024, 64) ||
        (uint64_t)block.x * block.y * block.z > 1024) {
        complain("kernel %s: a grid of (%u, %u, %u) blocks of (%u, %u, %u) threads is out of range",
                 name.c_str(), grid.x, grid.y, grid.z, block.x, block.y, block.z);
        return report(cudaErrorInvalidConfiguration);
    }
    if ((uint64_t)grid.x * grid.y * grid.z > 0xffffffffu) {
        die("kernel %s: more than 2^32 blocks would take for ever", name.c_str());
    }
    if (config->dynamicSmemBytes != 0 || config->numAttrs != 0) {
        complain("kernel %s: dynamic shared memory and launch attributes are not emulated",
                 name.c_str());
        return report(cudaErrorNotSupported);
    }
    if (parameter_bytes > 4096) {
        complain("kernel %s: %zu bytes of parameters, at most 4096 fit on every device",
                 name.c_str(), parameter_bytes);
        return report(cudaErrorInvalidValue);
    }
    return enqueue(config->stream, {"kernel " + name, [=] { run_grid(name, grid, block, run); }});
}

} // namespace rodeo_emulator

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    using namespace rodeo_emulator;
    Lock lock(state().mutex);
    if (kernel == nullptr) {
        return report(cudaErrorInvalidDeviceFunction);
    }
    int sm = state().major * 10 + state().minor;
    *attributes = {0, 0, 0, 1024, 0, state().code, sm};
    return cudaSuccess;
}
