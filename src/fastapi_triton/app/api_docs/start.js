// SPDX-License-Identifier: Apache-2.0
// Starts Swagger UI. Without the changes below it fills every optional field of a form with a sample, and sends it.

const {parameters, oauth} = JSON.parse(document.getElementById("settings").textContent);
const openapiURL = new URL(parameters.url, location.href).href;

/** Gives optional form fields without a default an empty example. */
function withEmptyFields(openapi) {
  for (const operations of Object.values(openapi.paths)) {
    for (const operation of Object.values(operations)) {
      const form = operation.requestBody?.content?.["multipart/form-data"]?.schema;
      for (const [name, field] of Object.entries(form?.properties ?? {})) {
        if (!form.required?.includes(name) && field.default === undefined) field.example ??= "";
      }
    }
  }
  return openapi;
}

/** "Send empty value" is unchecked at first, so empty fields are not sent. */
const EmptyFieldsNotSent = () => ({
  wrapComponents: {
    ParameterIncludeEmpty: (Original, {React}) => (props) => {
      const isIncludedOptions = {...props.isIncludedOptions, defaultValue: false};
      return React.createElement(Original, {...props, isIncludedOptions});
    },
  },
});

const ui = SwaggerUIBundle({
  responseInterceptor: (response) => {
    if (response.url === openapiURL && response.ok) {
      response.text = JSON.stringify(withEmptyFields(JSON.parse(response.text)));
    }
    return response;
  },
  ...parameters,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [EmptyFieldsNotSent],
});
if (oauth) ui.initOAuth(oauth);
