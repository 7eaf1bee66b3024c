// A CUDA driver that has no device: what candle and the hook call of it, on threads of the host. Streams
// are threads that take their time, so that work which nobody has ordered shows; memory that is freed on
// a stream is spoiled when the stream comes to it. It runs one kernel, the hook's, by the emulator.
//
// Built as libcuda.so.1 it lets `main.rs` show the order of copies, events and threads on a machine
// without a GPU. `.ci/cuda` builds it, with a stub for every other symbol of the CUDA libraries.

#include "../kernel/emulator.cpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

typedef int CUresult;
enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_READY = 600, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

namespace {

// A point in a stream's work that others wait for.
struct Mark {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_reached = false;

    void reach() {
        std::lock_guard<std::mutex> lock(mutex);
        is_reached = true;
        changed.notify_all();
    }
    void wait() {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [this] { return is_reached; });
    }
    bool is_there() {
        std::lock_guard<std::mutex> lock(mutex);
        return is_reached;
    }
};

class Stream {
  public:
    Stream() : worker([this] { work(); }) {
        std::lock_guard<std::mutex> lock(all_mutex);
        all.insert(this);
    }

    ~Stream() {
        {
            std::lock_guard<std::mutex> lock(all_mutex);
            all.erase(this);
        }
        push(nullptr);
        worker.join();
    }

    static void synchronize_all() {
        std::lock_guard<std::mutex> lock(all_mutex);
        for (Stream* stream : all) {
            stream->synchronize();
        }
    }

    void push(std::function<void()> job) {
        std::lock_guard<std::mutex> lock(mutex);
        jobs.push_back(std::move(job));
        changed.notify_one();
    }

    void synchronize() {
        auto mark = std::make_shared<Mark>();
        push([mark] { mark->reach(); });
        mark->wait();
    }

  private:
    void work() {
        unsigned random = (unsigned)(size_t)this | 1;
        while (true) {
            std::function<void()> job;
            {
                std::unique_lock<std::mutex> lock(mutex);
                changed.wait(lock, [this] { return !jobs.empty(); });
                job = std::move(jobs.front());
                jobs.pop_front();
            }
            if (!job) {
                return;
            }
            // Now and then the device is far behind.
            random = random * 1664525 + 1013904223;
            unsigned dice = random >> 24;
            std::this_thread::sleep_for(std::chrono::microseconds(dice < 8 ? 3000 : dice < 64 ? 100 : 0));
            job();
        }
    }

    static std::mutex all_mutex;
    static std::set<Stream*> all;

    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> jobs;
    std::thread worker;
};

std::mutex Stream::all_mutex;
std::set<Stream*> Stream::all;

struct Event {
    std::mutex mutex;
    std::shared_ptr<Mark> latest;

    std::shared_ptr<Mark> get() {
        std::lock_guard<std::mutex> lock(mutex);
        return latest;
    }
};

std::mutex pinned_mutex;
std::set<std::pair<const char*, size_t>> pinned;

// Sizes of device memory, to spoil all of it.
std::mutex device_mutex;
std::set<std::pair<char*, size_t>> device;

std::mutex kernel_mutex;

const unsigned long long PER_THREAD = 2;

Stream& stream_of(void* handle) {
    static thread_local Stream own;
    static Stream legacy;
    if ((unsigned long long)handle == PER_THREAD) {
        return own;
    }
    return handle ? *(Stream*)handle : legacy;
}

bool is_pinned(const void* address) {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    for (const auto& region : pinned) {
        if ((const char*)address >= region.first && (const char*)address < region.first + region.second) {
            return true;
        }
    }
    return false;
}

CUresult allocate(u64* address, size_t bytes) {
    // `EMULATED_MEMORY` bounds it, to see what a full device does.
    const char* limit = std::getenv("EMULATED_MEMORY");
    if (limit && bytes > std::strtoull(limit, nullptr, 10)) {
        return 2;
    }
    char* memory = (char*)std::malloc(bytes + 1);
    std::memset(memory, 0x5a, bytes);
    std::lock_guard<std::mutex> lock(device_mutex);
    device.insert({memory, bytes});
    *address = (u64)memory;
    return SUCCESS;
}

CUresult release(u64 address) {
    std::lock_guard<std::mutex> lock(device_mutex);
    for (auto region = device.begin(); region != device.end(); ++region) {
        if (region->first == (char*)address) {
            std::memset(region->first, 0xa5, region->second);
            std::free(region->first);
            device.erase(region);
            return SUCCESS;
        }
    }
    return INVALID_VALUE;
}

thread_local void* current = nullptr;

} // namespace

extern "C" {

CUresult cuInit(unsigned) { return std::getenv("EMULATED_ABSENT") ? 100 : SUCCESS; }
// The run-time compiler asks for tables of its own; it does without.
CUresult cuGetExportTable(const void** table, const void*) { *table = nullptr; return NOT_SUPPORTED; }
CUresult cuDriverGetVersion(int* version) { *version = 13000; return SUCCESS; }
CUresult cuDeviceGetCount(int* count) { *count = 1; return SUCCESS; }
CUresult cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal ? 101 : SUCCESS; }
CUresult cuDeviceGetName(char* name, int length, int) {
    std::strncpy(name, "none, emulated", length);
    return SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability 9.0, and memory pools.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 115 ? 1 : 0;
    return SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(void** context, int) { *context = (void*)0x10; return SUCCESS; }
CUresult cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
CUresult cuCtxSetCurrent(void* context) { current = context; return SUCCESS; }
CUresult cuCtxSynchronize() { Stream::synchronize_all(); return SUCCESS; }
CUresult cuCtxGetCurrent(void** context) { *context = current; return SUCCESS; }

CUresult cuStreamCreate(void** stream, unsigned) {
    *stream = new Stream;
    return current ? SUCCESS : 201;
}
CUresult cuStreamDestroy_v2(void* stream) { delete (Stream*)stream; return SUCCESS; }
CUresult cuStreamSynchronize(void* stream) { stream_of(stream).synchronize(); return SUCCESS; }
CUresult cuStreamIsCapturing(void*, int* status) { *status = 0; return SUCCESS; }
CUresult cuStreamWaitEvent(void* stream, void* event, unsigned) {
    std::shared_ptr<Mark> mark = ((Event*)event)->get();
    if (mark) {
        stream_of(stream).push([mark] { mark->wait(); });
    }
    return SUCCESS;
}

CUresult cuEventCreate(void** event, unsigned) { *event = new Event; return current ? SUCCESS : 201; }
CUresult cuEventDestroy_v2(void* event) { delete (Event*)event; return SUCCESS; }
CUresult cuEventRecord(void* event, void* stream) {
    auto mark = std::make_shared<Mark>();
    {
        std::lock_guard<std::mutex> lock(((Event*)event)->mutex);
        ((Event*)event)->latest = mark;
    }
    stream_of(stream).push([mark] { mark->reach(); });
    return SUCCESS;
}
CUresult cuEventQuery(void* event) {
    std::shared_ptr<Mark> mark = ((Event*)event)->get();
    return !mark || mark->is_there() ? SUCCESS : NOT_READY;
}
CUresult cuEventSynchronize(void* event) {
    if (std::shared_ptr<Mark> mark = ((Event*)event)->get()) {
        mark->wait();
    }
    return current ? SUCCESS : 201;
}

CUresult cuMemAlloc_v2(u64* address, size_t bytes) { return allocate(address, bytes); }
CUresult cuMemAllocAsync(u64* address, size_t bytes, void*) { return allocate(address, bytes); }
CUresult cuMemFree_v2(u64 address) { return release(address); }
CUresult cuMemFreeAsync(u64 address, void* stream) {
    stream_of(stream).push([=] { release(address); });
    return SUCCESS;
}
CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned flags) {
    // Write-combined memory must not be asked for.
    if (flags & 4) {
        return INVALID_VALUE;
    }
    *address = std::malloc(bytes);
    std::memset(*address, 0x5a, bytes);
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned.insert({(const char*)*address, bytes});
    return SUCCESS;
}
CUresult cuMemFreeHost(void* address) {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    for (auto region = pinned.begin(); region != pinned.end(); ++region) {
        if (region->first == address) {
            pinned.erase(region);
            std::free(address);
            return SUCCESS;
        }
    }
    return INVALID_VALUE;
}
CUresult cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* stream) {
    if (is_pinned(from)) {
        stream_of(stream).push([=] { std::memcpy((void*)to, from, bytes); });
        return SUCCESS;
    }
    auto staged = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + bytes);
    stream_of(stream).push([=] { std::memcpy((void*)to, staged->data(), bytes); });
    return SUCCESS;
}
CUresult cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* stream) {
    stream_of(stream).push([=] { std::memcpy(to, (const void*)from, bytes); });
    if (!is_pinned(to)) {
        stream_of(stream).synchronize();
    }
    return SUCCESS;
}
CUresult cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void* stream) {
    stream_of(stream).push([=] { std::memcpy((void*)to, (const void*)from, bytes); });
    return SUCCESS;
}
CUresult cuMemsetD8Async(u64 to, unsigned char value, size_t bytes, void* stream) {
    stream_of(stream).push([=] { std::memset((void*)to, value, bytes); });
    return SUCCESS;
}

CUresult cuModuleLoadData(void** module, const void* image) {
    *module = (void*)1;
    // The real compiler has seen the kernel; what it makes names it.
    return std::strstr((const char*)image, "observe_f32") ? SUCCESS : NOT_FOUND;
}
CUresult cuModuleUnload(void*) { return SUCCESS; }
CUresult cuModuleGetFunction(void** function, void*, const char* name) {
    *function = new std::string(name);
    return SUCCESS;
}
CUresult cuLaunchKernel(
    void* function,
    unsigned,
    unsigned,
    unsigned,
    unsigned threads,
    unsigned,
    unsigned,
    unsigned,
    void* stream,
    void** arguments,
    void**
) {
    const std::string& name = *(const std::string*)function;
    Kernel kernel = name == "observe_f32" ? observe_f32
        : name == "observe_f64"           ? observe_f64
        : name == "observe_f16"           ? observe_f16
        : name == "observe_bf16"          ? observe_bf16
                                          : nullptr;
    if (!kernel || threads < 32) {
        return NOT_SUPPORTED;
    }
    Task task = *(const Task*)arguments[0];
    // Two threads show what a block's threads do to one another; the kernel's own tests take more.
    stream_of(stream).push([=] {
        std::lock_guard<std::mutex> lock(kernel_mutex);
        launch(kernel, task, 2);
    });
    return SUCCESS;
}

} // extern "C"
