// Submit, poll, cancel and read results, with the client that openapi-generator makes of /openapi.json.

import java.io.File;
import java.util.List;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.JobsApi;
import org.openapitools.client.api.JobsApi.APIJobsShowRequest;
import org.openapitools.client.api.JobsApi.APIJobsSubmitRequest;
import org.openapitools.client.api.ResultsApi;
import org.openapitools.client.api.ResultsApi.APIResultsIndexRequest;
import org.openapitools.client.model.JobStatus;
import org.openapitools.client.model.JobWithResults;
import org.openapitools.client.model.Result;

class Lunch {
    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(arguments[0]);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + arguments[1]));
        JobsApi jobs = new JobsApi(client);

        JobWithResults job = jobs.jobsSubmit(APIJobsSubmitRequest.newBuilder()
            .images(List.of(new File(arguments[2]))).jobName2("Lunch").fresh2(true).idempotencyKey("lunch").build());
        JobStatus status = job.getStatus();
        while (status == JobStatus.QUEUED || status == JobStatus.RUNNING) {
            Thread.sleep(100);
            status = jobs.jobsShow(APIJobsShowRequest.newBuilder().jobId(job.getId()).build()).getStatus();
        }
        System.out.println(job.getName() + " " + status);
        APIResultsIndexRequest query = APIResultsIndexRequest.newBuilder().job(job.getId()).build();
        for (Result result : new ResultsApi(client).resultsIndex(query).getResults()) {
            System.out.println(result.getImage() + " " + result.getLabel() + " " + result.getConfidence());
        }
        try {
            jobs.jobsCancel("unknown");
        } catch (ApiException problem) {
            System.out.println(problem.getCode());
        }
    }
}
