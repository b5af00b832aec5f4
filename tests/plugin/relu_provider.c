/* A plug-in execution provider for onnxruntime >= 1.23 that runs float32 Relu on the CPU, and nothing else.
 *
 * A provider that takes only a part of a network, whatever machine the tests run on. onnxruntime's C interface is a table of function
 * pointers that is only ever extended, so it needs no header: the slots used here are numbered as in OrtApi and OrtEpApi of
 * onnxruntime_c_api.h and onnxruntime_ep_c_api.h, and the structures hold their first members.
 *
 * cc -shared -fPIC -o librelu.so relu_provider.c
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 23, CPU = 0 };

typedef struct Status Status;
typedef struct Opaque Opaque;

/* -- onnxruntime's functions ---------------------------------------------------------------------------------------------- */

typedef struct {
  void *const *(*get_api)(uint32_t version);
  const char *(*get_version)(void);
} ApiBase;

static void *const *api;    /* OrtApi */
static void *const *ep_api; /* OrtEpApi */

#define CALL(slot, ...) ((Status * (*)(__VA_ARGS__)) api[slot])
#define tensor_data CALL(51, Opaque *, void **)
#define dimensions_count CALL(61, const Opaque *, size_t *)
#define dimensions CALL(62, const Opaque *, int64_t *, size_t)
#define element_count CALL(64, const Opaque *, size_t *)
#define type_and_shape CALL(65, const Opaque *, Opaque **)
#define kernel_input CALL(90, const Opaque *, size_t, const Opaque **)
#define kernel_output CALL(91, Opaque *, size_t, const int64_t *, size_t, Opaque **)
#define release_type_and_shape ((void (*)(Opaque *))api[99])
#define device_type ((int (*)(const Opaque *))api[307])
#define get_ep_api ((void *const *(*)(void))api[317])
#define node_count CALL(344, const Opaque *, size_t *)
#define graph_nodes CALL(345, const Opaque *, const Opaque **, size_t)
#define operator_type CALL(350, const Opaque *, const char **)

typedef struct Factory Factory;
#define create_ep_device \
  ((Status * (*)(Factory *, const Opaque *, const Opaque *, const Opaque *, Opaque **)) ep_api[0])
#define take_nodes ((Status * (*)(Opaque *, const Opaque *const *, size_t, const void *)) ep_api[2])

/* -- the kernel ------------------------------------------------------------------------------------------------------------- */

typedef struct Kernel Kernel;
struct Kernel {
  uint32_t version;
  Status *(*create_state)(Kernel *, Opaque *, void **);
  Status *(*compute)(Kernel *, void *, Opaque *);
  void (*release_state)(Kernel *, void *);
};

static Status *create_state(Kernel *kernel, Opaque *context, void **state) {
  (void)context;
  *state = kernel;
  return NULL;
}

static Status *compute(Kernel *kernel, void *state, Opaque *context) {
  (void)kernel, (void)state;
  const Opaque *input = NULL;
  Opaque *shape = NULL, *output = NULL;
  float *x = NULL, *y = NULL;
  int64_t extents[16];
  size_t rank = 0, count = 0;
  Status *status;
  if ((status = kernel_input(context, 0, &input))) return status;
  if ((status = type_and_shape(input, &shape))) return status;
  if ((status = dimensions_count(shape, &rank)) || (status = dimensions(shape, extents, rank)) ||
      (status = element_count(shape, &count))) {
    release_type_and_shape(shape);
    return status;
  }
  release_type_and_shape(shape);
  if ((status = kernel_output(context, 0, extents, rank, &output))) return status;
  if ((status = tensor_data((Opaque *)input, (void **)&x))) return status;
  if ((status = tensor_data(output, (void **)&y))) return status;
  for (size_t i = 0; i < count; i++) y[i] = x[i] > 0 ? x[i] : 0;
  return NULL;
}

static void release_state(Kernel *kernel, void *state) { (void)kernel, (void)state; }

/* -- the provider ----------------------------------------------------------------------------------------------------------- */

typedef struct Provider Provider;
struct Provider {
  uint32_t version;
  const char *(*name)(const Provider *);
  Status *(*capability)(Provider *, const Opaque *, Opaque *);
  Status *(*compile)(Provider *, const Opaque **, const Opaque **, size_t, Kernel **, Opaque **);
  void (*release_kernels)(Provider *, Kernel **, size_t);
  void *unused[16]; /* optional members, all absent */
};

static const char *provider_name(const Provider *provider) {
  (void)provider;
  return "ReluExecutionProvider";
}

static Status *capability(Provider *provider, const Opaque *graph, Opaque *support) {
  (void)provider;
  size_t count = 0;
  Status *status = node_count(graph, &count);
  if (status || !count) return status;
  const Opaque **nodes = calloc(count, sizeof *nodes);
  status = graph_nodes(graph, nodes, count);
  for (size_t i = 0; i < count && !status; i++) {
    const char *type = "";
    status = operator_type(nodes[i], &type);
    if (!status && !strcmp(type, "Relu")) status = take_nodes(support, &nodes[i], 1, NULL);
  }
  free(nodes);
  return status;
}

static Status *compile(Provider *provider, const Opaque **graphs, const Opaque **fused, size_t count, Kernel **kernels,
                       Opaque **context_nodes) {
  (void)provider, (void)graphs, (void)fused, (void)context_nodes;
  for (size_t i = 0; i < count; i++) {
    kernels[i] = calloc(1, sizeof **kernels);
    *kernels[i] = (Kernel){VERSION, create_state, compute, release_state};
  }
  return NULL;
}

static void release_kernels(Provider *provider, Kernel **kernels, size_t count) {
  (void)provider;
  for (size_t i = 0; i < count; i++) free(kernels[i]);
}

/* -- the library ------------------------------------------------------------------------------------------------------------ */

struct Factory {
  uint32_t version;
  const char *(*name)(const Factory *);
  const char *(*vendor)(const Factory *);
  Status *(*devices)(Factory *, const Opaque *const *, size_t, Opaque **, size_t, size_t *);
  Status *(*create)(Factory *, const Opaque *const *, const Opaque *const *, size_t, const Opaque *, const Opaque *, Provider **);
  void (*release)(Factory *, Provider *);
  uint32_t (*vendor_id)(const Factory *);
  const char *(*provider_version)(const Factory *);
  void *validate;
  Status *(*create_allocator)(Factory *, const Opaque *, const Opaque *, Opaque **);
  void (*release_allocator)(Factory *, Opaque *);
  Status *(*create_transfer)(Factory *, Opaque **);
  _Bool (*is_stream_aware)(const Factory *);
  void *unused[16];
};

static const char *factory_name(const Factory *factory) { return (void)factory, provider_name(NULL); }
static const char *factory_vendor(const Factory *factory) { return (void)factory, "bnfold tests"; }
static uint32_t factory_vendor_id(const Factory *factory) { return (void)factory, 0; }
static const char *factory_version(const Factory *factory) { return (void)factory, "1.0.0"; }
static _Bool not_stream_aware(const Factory *factory) { return (void)factory, 0; }
static void release_allocator(Factory *factory, Opaque *allocator) { (void)factory, (void)allocator; }

static Status *no_allocator(Factory *factory, const Opaque *memory, const Opaque *options, Opaque **allocator) {
  (void)factory, (void)memory, (void)options;
  *allocator = NULL; /* onnxruntime's own, for the CPU */
  return NULL;
}

static Status *no_transfer(Factory *factory, Opaque **transfer) {
  (void)factory;
  *transfer = NULL;
  return NULL;
}

static Status *supported_devices(Factory *factory, const Opaque *const *devices, size_t count, Opaque **supported, size_t room,
                                 size_t *found) {
  *found = 0;
  for (size_t i = 0; i < count && *found < room; i++) {
    if (device_type(devices[i]) != CPU) continue;
    Status *status = create_ep_device(factory, devices[i], NULL, NULL, &supported[*found]);
    if (status) return status;
    ++*found;
  }
  return NULL;
}

static Status *create_provider(Factory *factory, const Opaque *const *devices, const Opaque *const *metadata, size_t count,
                               const Opaque *options, const Opaque *logger, Provider **provider) {
  (void)factory, (void)devices, (void)metadata, (void)count, (void)options, (void)logger;
  *provider = calloc(1, sizeof **provider);
  **provider = (Provider){VERSION, provider_name, capability, compile, release_kernels, {NULL}};
  return NULL;
}

static void release_provider(Factory *factory, Provider *provider) {
  (void)factory;
  free(provider);
}

Status *CreateEpFactories(const char *name, const ApiBase *base, const Opaque *logger, Factory **factories, size_t room,
                          size_t *count) {
  (void)name, (void)logger;
  *count = 0;
  api = base->get_api(VERSION);
  if (!api || !room) return NULL; /* an older onnxruntime */
  ep_api = get_ep_api();
  factories[0] = calloc(1, sizeof **factories);
  *factories[0] = (Factory){VERSION,           factory_name,     factory_vendor,  supported_devices, create_provider,
                            release_provider,  factory_vendor_id, factory_version, NULL,              no_allocator,
                            release_allocator, no_transfer,      not_stream_aware, {NULL}};
  *count = 1;
  return NULL;
}

Status *ReleaseEpFactory(Factory *factory) {
  free(factory);
  return NULL;
}
