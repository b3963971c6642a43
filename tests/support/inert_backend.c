// SPDX-License-Identifier: Apache-2.0
// A Triton backend that accepts any model and runs nothing: it loads a model in a millisecond. Its responses have no
// outputs, which is enough for a model's warm-up.
enum { FINAL = 1, ALL = 1 }; // TRITONSERVER_RESPONSE_COMPLETE_FINAL, TRITONSERVER_REQUEST_RELEASE_ALL

void *TRITONBACKEND_ResponseNew(void **response, void *request);
void *TRITONBACKEND_ResponseSend(void *response, unsigned flags, void *error);
void *TRITONBACKEND_RequestRelease(void *request, unsigned flags);

void *TRITONBACKEND_ModelInstanceExecute(void *instance, void **requests, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    void *response;
    TRITONBACKEND_ResponseNew(&response, requests[i]);
    TRITONBACKEND_ResponseSend(response, FINAL, 0);
    TRITONBACKEND_RequestRelease(requests[i], ALL);
  }
  return 0;
}
