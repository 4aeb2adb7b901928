/* A stand-in for libnvidia-ml.so.1: the real nvidia-ml-py binding runs on it, structs, errors, events and all.
 *
 * Its whole state is one file, mapped by every process that loads it and by the test that drives it (state.py mirrors
 * the structs below). NVML_FAKE_STATE names the file. `hang` blocks calls as a stuck driver does, until it is cleared.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_GPUS 16
#define MAX_LINKS 18
#define MAX_FIELDS 320
#define MAX_EVENTS 1024
#define MAX_PROCESSES 8
#define MAX_INSTANCES 7

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, TIMEOUT = 10, GPU_IS_LOST = 15, VERSION_MISMATCH = 25, UNKNOWN = 999 };

typedef struct { uint32_t supported, type; uint64_t value; } Field;
typedef struct { uint32_t gpu, pad; uint64_t type, data; } Event;
typedef struct { uint32_t pid, pad; uint64_t memory; } Process;
typedef struct { char uuid[96], profile[32]; uint32_t present, gi, ci, pad; uint64_t total, used; } Instance;

typedef struct {
  char uuid[96], name[96], pci[32], serial[32], vbios[32];
  uint32_t error, hang, delay_us, calls;
  uint32_t utilization, memory_utilization;
  uint64_t memory_total, memory_used, memory_free, memory_reserved;
  int32_t temperature, margin;
  uint32_t sm_clock, memory_clock, sm_clock_max, memory_clock_max, locked_clock;
  uint64_t reasons;
  uint32_t pstate, pcie_generation, pcie_width, pcie_generation_max, pcie_width_max;
  uint32_t limit_mw, limit_min_mw, limit_max_mw, limit_default_mw, may_set, ignores_limit;
  uint32_t banks[5], fabric_state, architecture, mig, gpm_supported, processes;
  double gpm[4];
  uint32_t links, link_up[MAX_LINKS];
  Process process[MAX_PROCESSES];
  Field field[MAX_FIELDS];
  uint64_t link_field[MAX_LINKS][MAX_FIELDS];
  Instance instance[MAX_INSTANCES]; /* MIG devices: handles of their own, which lie within their GPU */
} Gpu;

typedef struct {
  uint32_t magic, count, init_error, hang;
  uint64_t events;
  Event event[MAX_EVENTS];
  Gpu gpu[MAX_GPUS];
} State;

typedef struct { uint32_t version; unsigned long long a, b, c, d; } MemoryV2;
typedef struct { uint32_t id, scope; int64_t timestamp, latency; uint32_t type, code; uint64_t value; } FieldValue;
typedef struct { void *device; unsigned long long type, data; uint32_t gi, ci; } EventData;
typedef struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } PciInfo;
typedef struct { uint32_t pid; unsigned long long memory; uint32_t gi, ci; } ProcessInfo;
typedef struct { uint32_t version, sensor; int32_t temperature; } TemperatureV1;
typedef struct { uint32_t version; int32_t margin; } MarginV1;
typedef struct { uint32_t id, code; double value; char *info[3]; } GpmMetric;
typedef struct { uint32_t version, count; void *one, *two; GpmMetric metric[333]; } GpmMetrics;
typedef struct { uint32_t version, supported; } GpmSupport;
typedef struct { uint64_t seen, types[MAX_GPUS]; uint32_t registered[MAX_GPUS]; } EventSet;

static State *state;
static uint32_t loaded;

static void nap(long ns) { struct timespec t = {0, ns}; nanosleep(&t, NULL); }
static Gpu *of(void *device) { /* the GPU of a handle, also of a MIG device's */
  return &state->gpu[((char *)device - (char *)state->gpu) / (long)sizeof(Gpu)];
}
static Instance *part(void *device) { return device == (void *)of(device) ? NULL : (Instance *)device; }

static int enter(void *device) {
  if (!loaded) return UNINITIALIZED;
  while (state->hang) nap(1000000);
  if (!device) return SUCCESS;
  Gpu *g = of(device);
  __atomic_add_fetch(&g->calls, 1, __ATOMIC_RELAXED);
  while (g->hang) nap(1000000);
  if (g->delay_us) usleep(g->delay_us);
  return (int)g->error;
}
#define ENTER(device) do { int code_ = enter(device); if (code_) return code_; } while (0)
#define GIVE(name, type, what) int name(void *d, type *out) { ENTER(d); *out = (type)(what); return SUCCESS; }

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  const char *path = getenv("NVML_FAKE_STATE");
  int file = path ? open(path, O_RDWR) : -1;
  if (file < 0) return 9; /* driver not loaded */
  if (!state) state = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (state == MAP_FAILED || state->magic != 0x4e564d4c) return UNKNOWN;
  if (state->init_error) return (int)state->init_error;
  loaded++;
  return SUCCESS;
}
int nvmlShutdown(void) { if (!loaded) return UNINITIALIZED; loaded--; return SUCCESS; }
const char *nvmlErrorString(int code) {
  switch (code) {
    case SUCCESS: return "Success"; case UNINITIALIZED: return "Uninitialized"; case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions"; case NOT_FOUND: return "Not Found"; case 9: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout"; case GPU_IS_LOST: return "GPU is lost"; case 16: return "GPU requires reset";
    default: return "Unknown Error";
  }
}
static int text(char *out, const char *from, unsigned length) {
  if (strlen(from) + 1 > length) return INSUFFICIENT_SIZE;
  strcpy(out, from);
  return SUCCESS;
}
int nvmlSystemGetDriverVersion(char *out, unsigned n) { ENTER(NULL); return text(out, "580.159.04", n); }
int nvmlSystemGetNVMLVersion(char *out, unsigned n) { ENTER(NULL); return text(out, "13.580.159.04", n); }
int nvmlDeviceGetCount_v2(unsigned *out) { ENTER(NULL); *out = state->count; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  ENTER(NULL);
  if (index >= state->count) return INVALID_ARGUMENT;
  if (state->gpu[index].error == GPU_IS_LOST) return GPU_IS_LOST;
  *out = &state->gpu[index];
  return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
  ENTER(NULL);
  for (unsigned i = 0; i < state->count; i++)
    if (!strcmp(state->gpu[i].uuid, uuid)) { *out = &state->gpu[i]; return (int)state->gpu[i].error; }
  return NOT_FOUND;
}
int nvmlDeviceGetIndex(void *d, unsigned *out) { ENTER(d); *out = (unsigned)(of(d) - state->gpu); return SUCCESS; }
int nvmlDeviceGetUUID(void *d, char *out, unsigned n) {
  ENTER(d);
  return text(out, part(d) ? part(d)->uuid : of(d)->uuid, n);
}
int nvmlDeviceGetName(void *d, char *out, unsigned n) {
  ENTER(d);
  char name[160];
  snprintf(name, sizeof name, "%s%s%s", of(d)->name, part(d) ? " MIG " : "", part(d) ? part(d)->profile : "");
  return text(out, name, n);
}
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *out) { ENTER(d); *out = MAX_INSTANCES; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned index, void **out) {
  ENTER(d);
  if (!of(d)->mig || index >= MAX_INSTANCES || !of(d)->instance[index].present) return NOT_FOUND;
  *out = &of(d)->instance[index];
  return SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(void *d, unsigned *out) { ENTER(d); *out = part(d)->gi; return SUCCESS; }
int nvmlDeviceGetComputeInstanceId(void *d, unsigned *out) { ENTER(d); *out = part(d)->ci; return SUCCESS; }
int nvmlDeviceGetSerial(void *d, char *out, unsigned n) { ENTER(d); return text(out, of(d)->serial, n); }
int nvmlDeviceGetVbiosVersion(void *d, char *out, unsigned n) { ENTER(d); return text(out, of(d)->vbios, n); }
GIVE(nvmlDeviceGetMinorNumber, unsigned, of(d) - state->gpu)
GIVE(nvmlDeviceGetArchitecture, unsigned, of(d)->architecture)
int nvmlDeviceGetPciInfo_v3(void *d, PciInfo *out) {
  ENTER(d);
  memset(out, 0, sizeof *out);
  strncpy(out->bus_id, of(d)->pci, sizeof out->bus_id - 1);
  return SUCCESS;
}
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *pending) { ENTER(d); *now = *pending = of(d)->mig; return SUCCESS; }
int nvmlDeviceGetMemoryInfo_v2(void *d, MemoryV2 *out) {
  ENTER(d);
  if (out->version != 0x2000028) return VERSION_MISMATCH;
  if (part(d)) {
    out->a = part(d)->total; out->b = 0; out->c = part(d)->total - part(d)->used; out->d = part(d)->used;
    return SUCCESS;
  }
  out->a = of(d)->memory_total; out->b = of(d)->memory_reserved; out->c = of(d)->memory_free; out->d = of(d)->memory_used;
  return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(void *d, unsigned *out) {
  ENTER(d);
  if (of(d)->mig) return NOT_SUPPORTED;
  out[0] = of(d)->utilization; out[1] = of(d)->memory_utilization;
  return SUCCESS;
}
int nvmlDeviceGetTemperatureV(void *d, TemperatureV1 *out) {
  ENTER(d);
  if (out->version != 0x100000c) return VERSION_MISMATCH;
  out->temperature = of(d)->temperature;
  return SUCCESS;
}
int nvmlDeviceGetMarginTemperature(void *d, MarginV1 *out) {
  ENTER(d);
  if (out->version != 0x1000008) return VERSION_MISMATCH;
  out->margin = of(d)->margin;
  return SUCCESS;
}
int nvmlDeviceGetClockInfo(void *d, int domain, unsigned *out) {
  ENTER(d);
  *out = domain == 2 ? of(d)->memory_clock : of(d)->sm_clock;
  return SUCCESS;
}
int nvmlDeviceGetMaxClockInfo(void *d, int domain, unsigned *out) {
  ENTER(d);
  *out = domain == 2 ? of(d)->memory_clock_max : of(d)->sm_clock_max;
  return SUCCESS;
}
GIVE(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, of(d)->reasons)
GIVE(nvmlDeviceGetPerformanceState, unsigned, of(d)->pstate)
GIVE(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, of(d)->pcie_generation)
GIVE(nvmlDeviceGetCurrPcieLinkWidth, unsigned, of(d)->pcie_width)
GIVE(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, of(d)->pcie_generation_max)
GIVE(nvmlDeviceGetMaxPcieLinkWidth, unsigned, of(d)->pcie_width_max)
int nvmlDeviceGetRowRemapperHistogram(void *d, unsigned *out) { ENTER(d); memcpy(out, of(d)->banks, 20); return SUCCESS; }
int nvmlDeviceGetNvLinkState(void *d, unsigned link, unsigned *out) {
  ENTER(d);
  if (link >= of(d)->links) return INVALID_ARGUMENT;
  *out = of(d)->link_up[link];
  return SUCCESS;
}
int nvmlDeviceGetGpuFabricInfoV(void *d, uint32_t *out) {
  ENTER(d);
  if (!of(d)->fabric_state) return NOT_SUPPORTED;
  out[7] = of(d)->fabric_state; /* version, uuid of 16 bytes, status, clique, state */
  return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, ProcessInfo *out) {
  ENTER(d);
  unsigned there = of(d)->processes;
  if (*count < there) { *count = there; return INSUFFICIENT_SIZE; }
  *count = there;
  for (unsigned i = 0; i < there; i++)
    out[i] = (ProcessInfo){of(d)->process[i].pid, of(d)->process[i].memory, 0xffffffff, 0xffffffff};
  return SUCCESS;
}
int nvmlDeviceGetFieldValues(void *d, int count, FieldValue *out) {
  ENTER(d);
  Gpu *g = of(d);
  for (int i = 0; i < count; i++) {
    uint32_t id = out[i].id, link = out[i].scope;
    int known = id < MAX_FIELDS && g->field[id].supported;
    int scoped = known && g->field[id].supported == 2; /* one value a link */
    out[i].code = !known || (scoped && link >= g->links) ? NOT_SUPPORTED : SUCCESS;
    if (out[i].code) continue;
    out[i].type = g->field[id].type;
    out[i].value = scoped ? g->link_field[link][id] : g->field[id].value;
  }
  return SUCCESS;
}
int nvmlGpmQueryDeviceSupport(void *d, GpmSupport *out) { ENTER(d); out->supported = of(d)->gpm_supported; return SUCCESS; }
int nvmlGpmSampleAlloc(void **out) { *out = calloc(1, sizeof(double) * 4); return SUCCESS; }
int nvmlGpmSampleFree(void *sample) { free(sample); return SUCCESS; }
int nvmlGpmSampleGet(void *d, void *sample) { ENTER(d); memcpy(sample, of(d)->gpm, sizeof(double) * 4); return SUCCESS; }
int nvmlGpmMetricsGet(GpmMetrics *asked) {
  static const uint32_t ids[4] = {2, 3, 5, 10};
  for (unsigned i = 0; i < asked->count; i++) {
    asked->metric[i].code = NOT_SUPPORTED;
    for (int k = 0; k < 4; k++)
      if (asked->metric[i].id == ids[k]) { asked->metric[i].code = SUCCESS; asked->metric[i].value = ((double *)asked->two)[k]; }
  }
  return SUCCESS;
}
GIVE(nvmlDeviceGetPowerManagementLimit, unsigned, of(d)->limit_mw)
GIVE(nvmlDeviceGetEnforcedPowerLimit, unsigned, of(d)->limit_mw)
GIVE(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, of(d)->limit_default_mw)
int nvmlDeviceGetPowerManagementLimitConstraints(void *d, unsigned *low, unsigned *high) {
  ENTER(d);
  *low = of(d)->limit_min_mw; *high = of(d)->limit_max_mw;
  return SUCCESS;
}
int nvmlDeviceSetPowerManagementLimit(void *d, unsigned mw) {
  ENTER(d);
  Gpu *g = of(d);
  if (!g->may_set) return NO_PERMISSION;
  if (mw < g->limit_min_mw || mw > g->limit_max_mw) return INVALID_ARGUMENT;
  if (g->ignores_limit) return SUCCESS;
  g->limit_mw = mw;
  g->field[190].value = g->field[192].value = mw;
  return SUCCESS;
}
int nvmlDeviceSetGpuLockedClocks(void *d, unsigned low, unsigned high) {
  ENTER(d);
  (void)low;
  if (!of(d)->may_set) return NO_PERMISSION;
  of(d)->locked_clock = high;
  return SUCCESS;
}
int nvmlDeviceResetGpuLockedClocks(void *d) {
  ENTER(d);
  if (!of(d)->may_set) return NO_PERMISSION;
  of(d)->locked_clock = 0;
  return SUCCESS;
}
GIVE(nvmlDeviceGetSupportedEventTypes, unsigned long long, 0xfe1f)
int nvmlEventSetCreate(void **out) {
  ENTER(NULL);
  EventSet *set = calloc(1, sizeof *set);
  set->seen = __atomic_load_n(&state->events, __ATOMIC_ACQUIRE); /* what came before is lost, as in the driver */
  *out = set;
  return SUCCESS;
}
int nvmlEventSetFree(void *set) { free(set); return SUCCESS; }
int nvmlDeviceRegisterEvents(void *d, unsigned long long types, void *set) {
  ENTER(d);
  ((EventSet *)set)->types[of(d) - state->gpu] = types;
  return SUCCESS;
}
int nvmlEventSetWait_v2(void *given, EventData *out, unsigned timeout_ms) {
  ENTER(NULL);
  EventSet *set = given;
  for (;;) {
    uint64_t there = __atomic_load_n(&state->events, __ATOMIC_ACQUIRE);
    while (set->seen < there) {
      Event *e = &state->event[set->seen++ % MAX_EVENTS];
      if (!(set->types[e->gpu] & e->type)) continue;
      *out = (EventData){&state->gpu[e->gpu], e->type, e->data, 0xffffffff, 0xffffffff};
      return SUCCESS;
    }
    while (state->hang) nap(1000000);
    /* Sleeps until whoever pushes an event wakes it (state.py), as the driver's interrupt does. */
    struct timespec wait = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    long code = syscall(SYS_futex, (uint32_t *)&state->events, FUTEX_WAIT, (uint32_t)there, &wait, NULL, 0);
    if (code && __atomic_load_n(&state->events, __ATOMIC_ACQUIRE) == there) return TIMEOUT;
  }
}
